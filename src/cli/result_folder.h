// A folder of results: samples.jsonl grows by a line per answer, summary.json says how they were made and what they
// come to. A run that was cut off goes on in it.
#pragma once

#include <string>
#include <vector>

#include "eval/row.h"

namespace fastkv::cli {

class ResultFolder {
  public:
    /// Makes the folder, or goes on in one that has the same `evaluation` and `settings`; a last line that was cut off
    /// is taken away. With `retry_failed` rows with an error are taken away too. Throws Error(usage) for a folder made
    /// with other settings, saying which, or one that holds other files; Error(failure) where it cannot be read or
    /// written, or another run is at work in it.
    ResultFolder(const std::string& path, const std::string& evaluation, const eval::Json& settings, bool retry_failed);
    ~ResultFolder();
    ResultFolder(const ResultFolder&) = delete;
    ResultFolder& operator=(const ResultFolder&) = delete;

    /// Of earlier runs and of this one, in the order in which they came.
    const std::vector<eval::Row>& rows() const { return rows_; }

    /// Appends the row; it is on the disk when this returns.
    void add(const eval::Row& row);

    /// What this run is: command, version, machine. Stands in the summary's "runs", behind the earlier ones, as soon as
    /// it adds a row.
    void begin_run(const eval::Json& run);

    /// Writes summary.json: settings, runs, and `tables`.
    void write_summary(const eval::Json& tables) const;

    /// Writes any other file, whole or not at all.
    void write_file(const std::string& name, const std::string& content) const;

    const std::string& path() const { return path_; }

  private:
    void read_summary(const std::string& evaluation, const eval::Json& settings);
    void read_rows(bool retry_failed);
    void append(const eval::Row& row);

    std::string path_;
    eval::Json summary_;  // without its tables
    eval::Json run_;      // of this process, until it is in the summary
    std::vector<eval::Row> rows_;
    int lock_ = -1;     // the folder, open and locked
    int samples_ = -1;  // samples.jsonl, open for appending
};

/// Where results go if nobody says: "eval-needle-MODEL" in the current folder, MODEL being the file's name without
/// .gguf.
std::string default_folder(const std::string& evaluation, const std::string& model_path);

}  // namespace fastkv::cli
