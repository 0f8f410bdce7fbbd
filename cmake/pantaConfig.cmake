# find_package(panta): the target panta::panta of an installed libpanta, which
# lies in lib/cmake/panta under its prefix.
get_filename_component(_panta_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET panta::panta)
    add_library(panta::panta SHARED IMPORTED)
    set_target_properties(panta::panta PROPERTIES
        IMPORTED_LOCATION "${_panta_prefix}/lib/libpanta.so.0"
        IMPORTED_SONAME libpanta.so.0
        INTERFACE_INCLUDE_DIRECTORIES "${_panta_prefix}/include")
endif()
unset(_panta_prefix)
