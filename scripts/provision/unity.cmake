# Compile the generated C++ type support libraries in one piece each: all of their files include the same large headers,
# and reading those again for every message is most of the build time. Not for the C files, whose static names repeat,
# nor for introspection_cpp, whose specialisations depend on the order. Used with -DCMAKE_PROJECT_INCLUDE: the packages
# themselves know nothing of it.
function(unite_type_supports)
  foreach(kind cpp fastrtps_c fastrtps_cpp)
    set(target ${PROJECT_NAME}__rosidl_typesupport_${kind})
    if(TARGET ${target})
      set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL unite_type_supports)
