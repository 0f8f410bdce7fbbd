# find_package(panta [COMPONENTS C CXX Fortran MPI]): the targets of an installed
# libpanta, which lies in lib/cmake/panta under its prefix, wherever that is. They are
# listed in pantaTargets.cmake; without components there is panta::panta.
cmake_policy(PUSH)
cmake_policy(VERSION 3.18)
get_filename_component(_panta_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET panta::panta)
    add_library(panta::panta SHARED IMPORTED GLOBAL)
    set_target_properties(panta::panta PROPERTIES
        IMPORTED_LOCATION "${_panta_prefix}/lib/libpanta.so.0"
        IMPORTED_SONAME libpanta.so.0
        INTERFACE_INCLUDE_DIRECTORIES "${_panta_prefix}/include")
endif()
include("${CMAKE_CURRENT_LIST_DIR}/pantaTargets.cmake")
panta_targets("${_panta_prefix}/share/panta/fortran" ${panta_FIND_COMPONENTS})
set(panta_FOUND TRUE)
foreach(_panta_component ${panta_FIND_COMPONENTS})
    if(panta_FIND_REQUIRED_${_panta_component} AND NOT panta_${_panta_component}_FOUND)
        set(panta_FOUND FALSE)
    endif()
endforeach()
unset(_panta_prefix)
cmake_policy(POP)
