// fastkv report: one page of all results in a folder.
#pragma once

#include <string>

#include "cli/options.h"

namespace fastkv::cli {

struct ReportOptions {
    std::string folder;
    std::string output;  ///< "": report.html in the folder
};

void add_report_command(CLI::App& app, ReportOptions& options);

/// Returns the exit code: 0, or 1 where something could not be read, which is named. Throws Error where there are no
/// results, or the page cannot be written.
int report_command(const ReportOptions& options);

}  // namespace fastkv::cli
