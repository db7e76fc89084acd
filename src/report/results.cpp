#include "report/results.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "eval/json_lines.h"
#include "fastkv/error.h"
#include "report/evaluations.h"

namespace fastkv::report {

namespace {

using eval::Json;

const std::string samples_name = "samples.jsonl", summary_name = "summary.json", cells_name = "cells.json";

std::string folder_of(const std::string& name) {
    const size_t slash = name.rfind('/');
    return slash == std::string::npos ? "" : name.substr(0, slash);
}

std::string base_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string inside(const std::string& folder, const std::string& name) {
    return folder.empty() ? name : folder + "/" + name;
}

std::string text_or(const Json& json, const char* key, const std::string& otherwise) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

/// A model's file has the same size and, without folders, the same name.
bool same_file(const Model& model, const std::string& file, const Json& weights_bytes) {
    return model.file == file && model.facts.value("weights_bytes", Json()) == weights_bytes;
}

class Reader {
  public:
    explicit Reader(const std::function<std::string(const std::string&)>& read) : read_(read) {}

    Results all(const std::vector<std::string>& names) {
        const std::set<std::string> known(names.begin(), names.end());
        // Evaluations first: they know their models by hash, which rows of bench need not.
        for (const std::string& name : names) {
            if (base_of(name) == samples_name) guarded(name, [&] { add_evaluation(folder_of(name), known); });
        }
        for (const std::string& name : names) {
            const std::string base = base_of(name);
            const bool of_evaluation = known.count(inside(folder_of(name), samples_name)) > 0 &&
                                       (base == samples_name || base == summary_name || base == cells_name);
            if (!of_evaluation) guarded(name, [&] { add_other(name); });
        }
        return std::move(results_);
    }

  private:
    void complain(const std::string& line) { results_.complaints.push_back(line); }

    template <class Work>
    void guarded(const std::string& name, const Work& work) {
        try {
            work();
        } catch (const Error& error) {
            if (error.kind() == ErrorKind::cancelled) throw;
            complain(error.what());
        } catch (const Json::exception& error) {
            complain(name + ": " + error.what());
        }
    }

    /// Takes a line in. Where that fails, it is left out with a complaint.
    template <class Work>
    void take(const std::string& complaint, const Work& work) {
        try {
            work();
        } catch (const Json::exception& error) {
            complain(complaint + error.what());
        } catch (const Error& error) {
            complain(complaint + error.what());
        }
    }

    void add_evaluation(const std::string& folder, const std::set<std::string>& known) {
        const std::string summary_path = inside(folder, summary_name), samples_path = inside(folder, samples_name);
        if (known.count(summary_path) == 0) return add_stray(samples_path);
        const Json summary = Json::parse(read_(summary_path), nullptr, /*allow_exceptions=*/false);
        if (!summary.is_object()) fail(summary_path + " is not a JSON object");
        Evaluation evaluation{.folder = folder, .name = text_or(summary, "evaluation", ""), .rows = {}};
        if (!is_evaluation(evaluation.name)) fail(summary_path + ": \"evaluation\" is none that is known here");
        evaluation.settings = summary.value("settings", Json::object());
        evaluation.runs = summary.value("runs", Json::array());
        if (!evaluation.settings.is_object() || !evaluation.runs.is_array()) {
            fail(summary_path + " is no summary of fastkv eval");
        }
        read_rows(evaluation, samples_path);
        model_of(evaluation).evaluations.push_back(std::move(evaluation));
    }

    /// Samples without a summary: nobody knows of what, if they are of fastkv eval at all.
    void add_stray(const std::string& path) {
        bool ours = false;
        for (const eval::JsonLine& line : eval::json_lines(read_(path), path, [](const std::string&) {})) {
            ours = ours || (line.json.contains("setting") && line.json.contains("references"));
        }
        if (ours) fail(path + " has no " + summary_name + " beside it");
        results_.skipped.push_back(path);
    }

    void read_rows(Evaluation& evaluation, const std::string& path) {
        std::string content = read_(path);
        // What is being written, or was when the run was cut off.
        if (!content.empty() && content.back() != '\n') content.resize(content.rfind('\n') + 1);
        std::set<std::string> keys;
        const auto on_error = [&](const std::string& line) { complain(line); };
        for (eval::JsonLine& line : eval::json_lines(content, path, on_error)) {
            take(line.where + " is no result of fastkv eval: ", [&] {
                eval::Row row = eval::row_of(std::move(line.json));
                check_row(evaluation.name, row);
                if (!keys.insert(row.key()).second) fail("a sample that stands further up");
                evaluation.rows.push_back(std::move(row));
            });
        }
    }

    Model& model_of(const Evaluation& evaluation) {
        const std::string hash = text_or(evaluation.settings, "model_hash", "");
        for (Model& model : results_.models) {
            if (model.hash == hash) return model;
        }
        Model model{.hash = hash, .file = "", .facts = Json::object(), .evaluations = {}, .benches = {}};
        for (const Json& run : evaluation.runs) {
            const Json facts = run.is_object() ? run.value("model", Json::object()) : Json::object();
            if (!facts.is_object()) continue;
            model.file = base_of(text_or(facts, "path", ""));
            model.facts = facts;
            model.facts.erase("path");
        }
        results_.models.push_back(std::move(model));
        return results_.models.back();
    }

    /// Rows of bench, or something else.
    void add_other(const std::string& name) {
        const std::string content = read_(name);
        std::vector<eval::JsonLine> lines;
        const Json whole = Json::parse(content, nullptr, /*allow_exceptions=*/false);
        if (whole.is_array()) {
            for (const Json& item : whole) {
                lines.push_back({name + ": row " + std::to_string(lines.size() + 1), item});
            }
        } else if (whole.is_object()) {
            lines.push_back({name + ": line 1", whole});
        } else {
            std::vector<std::string> errors;
            lines = eval::json_lines(content, name, [&](const std::string& line) { errors.push_back(line); });
            const bool bench =
                std::any_of(lines.begin(), lines.end(), [](auto& line) { return is_bench_row(line.json); });
            if (!bench && !errors.empty() && !name.ends_with("l")) errors = {name + " is damaged: it is no JSON"};
            for (const std::string& error : errors) complain(error);
            if (lines.empty() && !errors.empty()) return;
        }
        add_bench(name, lines);
    }

    void add_bench(const std::string& name, const std::vector<eval::JsonLine>& lines) {
        if (std::none_of(lines.begin(), lines.end(), [](auto& line) { return is_bench_row(line.json); })) {
            results_.skipped.push_back(name);
            return;
        }
        for (const eval::JsonLine& line : lines) {
            take(line.where + " is no row of fastkv bench: ", [&] {
                if (!is_bench_row(line.json)) fail("it lacks its keys");
                BenchRow row = bench_row_of(line.json);
                Model& model = model_of(row);
                if (model.benches.empty() || model.benches.back().file != name) model.benches.push_back({name, {}});
                model.benches.back().rows.push_back(std::move(row));
            });
        }
    }

    Model& model_of(const BenchRow& row) {
        const std::string file = base_of(text_or(row.facts, "model_filename", ""));
        const std::string hash = text_or(row.facts, "model_hash", "");
        const Json size = row.facts.value("model_size", Json());
        for (Model& model : results_.models) {
            if (hash.empty() || model.hash.empty() ? same_file(model, file, size) : model.hash == hash) return model;
        }
        Json facts = {{"arch", row.facts.value("model_type", Json())},
                      {"n_params", row.facts.value("model_n_params", Json())},
                      {"weights_bytes", size}};
        results_.models.push_back({.hash = hash, .file = file, .facts = facts, .evaluations = {}, .benches = {}});
        return results_.models.back();
    }

    const std::function<std::string(const std::string&)>& read_;
    Results results_;
};

}  // namespace

Results read_results(const std::vector<std::string>& names,
                     const std::function<std::string(const std::string& name)>& read) {
    return Reader(read).all(names);
}

}  // namespace fastkv::report
