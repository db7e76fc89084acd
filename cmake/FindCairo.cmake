# Finds cairo by its header and library: Cairo::Cairo, Cairo_VERSION. Only what it draws PNG files with is used.
find_path(Cairo_INCLUDE_DIR cairo/cairo.h)
find_library(Cairo_LIBRARY cairo)

set(Cairo_VERSION "")
if(Cairo_INCLUDE_DIR)
    foreach(part MAJOR MINOR MICRO)
        file(STRINGS ${Cairo_INCLUDE_DIR}/cairo/cairo-version.h Cairo_part REGEX "^#define CAIRO_VERSION_${part} +[0-9]+")
        string(REGEX REPLACE "[^0-9]*([0-9]+).*" "\\1" Cairo_part "${Cairo_part}")
        string(APPEND Cairo_VERSION ".${Cairo_part}")
    endforeach()
    string(SUBSTRING "${Cairo_VERSION}" 1 -1 Cairo_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Cairo REQUIRED_VARS Cairo_LIBRARY Cairo_INCLUDE_DIR VERSION_VAR Cairo_VERSION)
if(Cairo_FOUND AND NOT TARGET Cairo::Cairo)
    add_library(Cairo::Cairo UNKNOWN IMPORTED)
    # The headers include each other as <cairo-version.h>.
    set_target_properties(Cairo::Cairo PROPERTIES
                          IMPORTED_LOCATION ${Cairo_LIBRARY}
                          INTERFACE_INCLUDE_DIRECTORIES "${Cairo_INCLUDE_DIR};${Cairo_INCLUDE_DIR}/cairo")
endif()
mark_as_advanced(Cairo_INCLUDE_DIR Cairo_LIBRARY)
