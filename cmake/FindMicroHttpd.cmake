# Finds GNU libmicrohttpd by its header and library: MicroHttpd::MicroHttpd, MicroHttpd_VERSION.
find_path(MicroHttpd_INCLUDE_DIR microhttpd.h)
find_library(MicroHttpd_LIBRARY microhttpd)

# MHD_VERSION has two digits for each part: 0x00097500 is 0.9.75.
set(MicroHttpd_VERSION "")
if(MicroHttpd_INCLUDE_DIR)
    file(STRINGS ${MicroHttpd_INCLUDE_DIR}/microhttpd.h MicroHttpd_line REGEX "^#define MHD_VERSION 0x[0-9a-fA-F]+")
    string(REGEX REPLACE ".*0x([0-9a-fA-F][0-9a-fA-F])([0-9a-fA-F][0-9a-fA-F])([0-9a-fA-F][0-9a-fA-F]).*" "\\1.\\2.\\3"
           MicroHttpd_VERSION "${MicroHttpd_line}")
    string(REGEX REPLACE "0([0-9])" "\\1" MicroHttpd_VERSION "${MicroHttpd_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(MicroHttpd REQUIRED_VARS MicroHttpd_LIBRARY MicroHttpd_INCLUDE_DIR
                                  VERSION_VAR MicroHttpd_VERSION)
if(MicroHttpd_FOUND AND NOT TARGET MicroHttpd::MicroHttpd)
    add_library(MicroHttpd::MicroHttpd UNKNOWN IMPORTED)
    set_target_properties(MicroHttpd::MicroHttpd PROPERTIES
                          IMPORTED_LOCATION ${MicroHttpd_LIBRARY}
                          INTERFACE_INCLUDE_DIRECTORIES ${MicroHttpd_INCLUDE_DIR})
endif()
mark_as_advanced(MicroHttpd_INCLUDE_DIR MicroHttpd_LIBRARY)
