// Loads each SDF file with every warning and every unknown element taken for an error; says OK or what is wrong.
#include <iostream>

#include <sdf/Error.hh>
#include <sdf/ParserConfig.hh>
#include <sdf/Root.hh>

int main(int count, char **paths)
{
  auto config = sdf::ParserConfig::GlobalConfig();
  config.SetUnrecognizedElementsPolicy(sdf::EnforcementPolicy::ERR);
  config.SetWarningsPolicy(sdf::EnforcementPolicy::ERR);
  config.SetDeprecatedElementsPolicy(sdf::EnforcementPolicy::ERR);
  bool good = true;
  for (int i = 1; i < count; ++i)
  {
    sdf::Root root;
    const auto errors = root.Load(paths[i], config);
    for (const auto &error : errors)
      std::cout << paths[i] << ": " << error << "\n";
    if (errors.empty())
      std::cout << paths[i] << ": OK, " << root.WorldCount() << " worlds, " << (root.Model() ? 1 : 0) << " models\n";
    good = good && errors.empty();
  }
  return good ? 0 : 1;
}
