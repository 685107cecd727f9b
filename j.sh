. /tmp/p6/eyes7/env.sh; R="$PY -m exaone_ros.cli.main report"; cd /tmp/p6/eyes7
export PYTHONPATH=/work/wt/eyes7
rm -rf bad && mkdir bad && cp -r demo_out/bag bad/trunc && f=$(ls bad/trunc/*.mcap) && head -c 500000 $f > x && mv x $f
$R bad/trunc --out bad/t.html; echo "rc $?"
$R /nonexistent; echo "rc $?"
mkdir bad/empty; $R bad/empty; echo "rc $?"
cp -r demo_out/bag bad/nometa; rm bad/nometa/metadata.yaml; $R bad/nometa --out bad/n.html; echo "rc $?"
$R $(ls demo_out/bag/*.mcap) --out bad/f.html; echo "rc $?"
cp -r demo_out/bag bad/zero; : > $(ls bad/zero/*.mcap); $R bad/zero --out bad/z.html; echo "rc $?"
$R demo_out/bag --pictures 0 --out bad/p0.html; echo "rc $?"; $R demo_out/bag --pictures x; echo "rc $?"
$R demo_out/bag --out /nonexistent/x.html; echo "rc $?"; $R demo_out/bag --out bad; echo "rc $?"
echo "not yaml: [" > bad/zero/metadata.yaml; $R bad/zero --out bad/z.html; echo "rc $?"
$R demo_out/bag | head -0; echo "rc ${PIPESTATUS[0]}"
