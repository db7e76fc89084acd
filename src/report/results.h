// Result files become models with what was measured of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "eval/row.h"
#include "report/bench_rows.h"

namespace fastkv::report {

/// A folder of fastkv eval.
struct Evaluation {
    std::string folder;  ///< "": the one that was asked for
    std::string name;    ///< "needle"
    eval::Json settings = eval::Json::object();
    eval::Json runs = eval::Json::array();
    std::vector<eval::Row> rows;  ///< those that failed included
};

/// A file of fastkv bench -o json or jsonl, as far as it is about one model.
struct Bench {
    std::string file;
    std::vector<BenchRow> rows;
};

/// Everything about one model file.
struct Model {
    std::string hash;  ///< "": nobody says
    std::string file;  ///< its name without folders
    eval::Json facts;  ///< name, arch, file_type, n_params, weights_bytes, as far as they are known
    std::vector<Evaluation> evaluations;
    std::vector<Bench> benches;
};

struct Results {
    std::vector<Model> models;            ///< in the order in which their first file came
    std::vector<std::string> complaints;  ///< what could not be read: file, line and why, one line each
    std::vector<std::string> skipped;     ///< JSON files that hold something else
};

/// Reads the files of a folder, by their names within it: samples.jsonl with summary.json beside it is a folder of
/// fastkv eval, other *.json and *.jsonl are rows of fastkv bench or something else. `read` returns a file's content;
/// where it throws Error that is a complaint. A line that is damaged is left out, all others count; a last line without
/// its end is one that is being written, and no complaint.
Results read_results(const std::vector<std::string>& names,
                     const std::function<std::string(const std::string& name)>& read);

}  // namespace fastkv::report
