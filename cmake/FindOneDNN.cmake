# Finds oneDNN by its header and library: OneDNN::OneDNN, OneDNN_VERSION.
# Its own config file is passed over on purpose: Debian's demands the OpenCL headers for a GPU runtime that is not
# used here. Only a build whose CPU runtime is OpenMP or sequential will do, for fastkv's kernels run one primitive
# on each of their own threads.
find_path(OneDNN_INCLUDE_DIR oneapi/dnnl/dnnl_config.h HINTS ${dnnl_DIR}/../../.. ${dnnl_DIR}/../../../..
          PATH_SUFFIXES include)
find_library(OneDNN_LIBRARY dnnl HINTS ${dnnl_DIR}/../.. ${dnnl_DIR}/../../.. PATH_SUFFIXES lib)

if(OneDNN_INCLUDE_DIR AND OneDNN_LIBRARY)
    file(STRINGS ${OneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_config.h OneDNN_runtime
         REGEX "^#define DNNL_CPU_THREADING_RUNTIME ")
    string(REGEX REPLACE ".*DNNL_RUNTIME_([A-Z]+).*" "\\1" OneDNN_RUNTIME "${OneDNN_runtime}")
    set(OneDNN_VERSION "")
    foreach(part MAJOR MINOR PATCH)
        file(STRINGS ${OneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h OneDNN_part
             REGEX "^#define DNNL_VERSION_${part} +[0-9]+")
        string(REGEX REPLACE "[^0-9]*([0-9]+).*" "\\1" OneDNN_part "${OneDNN_part}")
        string(APPEND OneDNN_VERSION ".${OneDNN_part}")
    endforeach()
    string(SUBSTRING "${OneDNN_VERSION}" 1 -1 OneDNN_VERSION)
    if(OneDNN_RUNTIME STREQUAL "OMP")
        find_package(OpenMP COMPONENTS CXX)
        set(OneDNN_runtime_found ${OpenMP_CXX_FOUND})
    elseif(OneDNN_RUNTIME STREQUAL "SEQ")
        set(OneDNN_runtime_found TRUE)
    else()
        message(STATUS "oneDNN ${OneDNN_VERSION} in ${OneDNN_LIBRARY} runs its threads through ${OneDNN_RUNTIME}: "
                       "only OMP and SEQ will do, going without it")
        set(OneDNN_runtime_found FALSE)
    endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OneDNN REQUIRED_VARS OneDNN_LIBRARY OneDNN_INCLUDE_DIR OneDNN_runtime_found
                                  VERSION_VAR OneDNN_VERSION)
if(OneDNN_FOUND AND NOT TARGET OneDNN::OneDNN)
    add_library(OneDNN::OneDNN UNKNOWN IMPORTED)
    set_target_properties(OneDNN::OneDNN PROPERTIES IMPORTED_LOCATION ${OneDNN_LIBRARY}
                                                    INTERFACE_INCLUDE_DIRECTORIES ${OneDNN_INCLUDE_DIR})
    if(OneDNN_RUNTIME STREQUAL "OMP")
        set_property(TARGET OneDNN::OneDNN PROPERTY INTERFACE_LINK_LIBRARIES OpenMP::OpenMP_CXX)
    endif()
endif()
mark_as_advanced(OneDNN_INCLUDE_DIR OneDNN_LIBRARY)
