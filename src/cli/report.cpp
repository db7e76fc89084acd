#include "cli/report.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "bench/machine.h"
#include "cli/input_text.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/whole_file.h"
#include "fastkv/fastkv.h"
#include "report/page.h"

namespace fastkv::cli {

namespace {

namespace fs = std::filesystem;

constexpr const char* footer =
    R"(DIR and the folders below it are searched for results of fastkv eval (samples.jsonl and summary.json) and of fastkv bench
(-o json or jsonl, in a file called *.json or *.jsonl). The page holds tables, plots and heat maps by model; it is one file,
light and dark, and needs no network. What is damaged is named there and here, and makes the exit code 1; the rest counts.

Examples:
  fastkv eval ruler -m model.gguf --methods all -o results/ruler
  fastkv eval needle -m model.gguf --methods all -o results/needle
  fastkv bench -m model.gguf -p 1000-8000*2 --methods fullkv,fastkv -o jsonl > results/bench.jsonl
  fastkv report results)";

/// JSON files by their names within the folder, in the order of these.
std::vector<std::string> json_files(const std::string& folder, std::vector<std::string>& unreadable) {
    std::vector<std::string> names;
    std::error_code error;
    std::vector<fs::path> folders = {folder};
    while (!folders.empty()) {
        const fs::path at = folders.back();
        folders.pop_back();
        fs::directory_iterator entries(at, error);
        if (error) unreadable.push_back(at.string() + ": cannot read the folder: " + error.message());
        for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
            const fs::directory_entry& entry = *entries;
            std::error_code ignored;
            if (entry.is_directory(ignored) && !entry.is_symlink(ignored)) folders.push_back(entry.path());
            const std::string extension = entry.path().extension().string();
            const bool json = extension == ".json" || extension == ".jsonl";
            if (json && entry.is_regular_file(ignored))
                names.push_back(entry.path().lexically_relative(folder).string());
        }
    }
    std::sort(names.begin(), names.end());
    return names;
}

report::Results read_folder(const std::string& folder) {
    std::vector<std::string> unreadable;
    const std::vector<std::string> names = json_files(folder, unreadable);
    StatusLine line;
    size_t n_read = 0;
    report::Results results = report::read_results(names, [&](const std::string& name) {
        if (interrupted()) throw Error(ErrorKind::cancelled, "stopped between two files");
        if (line.due()) line.show(format("reading %s, file %zu of %zu", name.c_str(), n_read + 1, names.size()));
        ++n_read;
        return read_file((fs::path(folder) / name).string());
    });
    results.complaints.insert(results.complaints.end(), unreadable.begin(), unreadable.end());
    return results;
}

void print_notes(const report::Results& results) {
    for (const std::string& complaint : results.complaints) {
        std::string line = complaint;
        std::replace(line.begin(), line.end(), '\n', ' ');
        std::fprintf(stderr, "fastkv: error: %s\n", line.c_str());
    }
    for (const std::string& name : results.skipped) {
        std::fprintf(stderr, "fastkv: note: %s holds no results of fastkv eval or bench, skipped\n", name.c_str());
    }
}

// What the page calls the folder: "." says nothing to who reads it elsewhere.
std::string shown_folder(const std::string& folder) {
    const fs::path path = fs::canonical(folder);
    return folder.find_first_not_of("./") == std::string::npos ? path.filename().string() : folder;
}

void refuse_without_results(const std::string& folder, const report::Results& results) {
    if (!results.models.empty()) return;
    if (!results.complaints.empty()) fail(folder + " holds no results that could be read");
    refuse(folder + " holds no results: 'fastkv eval NAME -o DIR' and 'fastkv bench -o jsonl > FILE.jsonl' make some");
}

}  // namespace

void add_report_command(CLI::App& app, ReportOptions& options) {
    CLI::App* command = app.add_subcommand("report", "Show all results in a folder as one HTML page.");
    command->footer(footer);
    command->add_option("DIR", options.folder, "folder with results")->required()->option_text(" ");
    command->add_option("-o,--output", options.output, "the page (default DIR/report.html)")->type_name("FILE");
}

int report_command(const ReportOptions& options) {
    std::error_code ignored;
    if (!fs::exists(options.folder, ignored)) fail(options.folder + ": no such folder");
    if (!fs::is_directory(options.folder, ignored)) {
        refuse(options.folder + " is a file; name the folder that it is in");
    }
    const std::string path =
        options.output.empty() ? (fs::path(options.folder) / "report.html").string() : options.output;
    const WholeFile file(path, "-o");
    catch_interrupts();
    const report::Results results = read_folder(options.folder);
    print_notes(results);
    refuse_without_results(options.folder, results);
    const std::string html = report::page(results, {shown_folder(options.folder), bench::utc_time(), version()});
    if (interrupted()) throw Error(ErrorKind::cancelled, "stopped before writing");
    file.write(html);
    release_interrupts();
    std::printf("%s\n", path.c_str());
    if (std::fflush(stdout) != 0) fail("cannot write the page's name to standard output");
    return results.complaints.empty() ? 0 : 1;
}

}  // namespace fastkv::cli
