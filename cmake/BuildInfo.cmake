# fastkv_build_info.h: what the library was built with, for --version and the tests.
set(fastkv_onednn_version "${OneDNN_VERSION}")
if(NOT OneDNN_FOUND)
    set(fastkv_onednn_version "")
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/fastkv_build_info.h.in
               ${PROJECT_BINARY_DIR}/generated/fastkv_build_info.h @ONLY)
add_library(fastkv-build-info INTERFACE)
target_include_directories(fastkv-build-info INTERFACE ${PROJECT_BINARY_DIR}/generated)
