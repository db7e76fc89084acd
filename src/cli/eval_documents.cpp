// fastkv eval compare and fastkv eval oracle: methods beside FullKV on the user's own documents.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <sstream>

#include "cli/eval.h"
#include "cli/input_text.h"
#include "cli/number_list.h"
#include "cli/session_setup.h"
#include "cli/text.h"
#include "eval/compare.h"
#include "eval/oracle.h"
#include "methods/values.h"

namespace fastkv::cli {

namespace {

namespace fs = std::filesystem;

struct DocumentOptions {
    std::vector<std::string> questions;  // -q
    std::string question_file;
    int n_predict = 128;
};

std::vector<eval::Document> read_documents(const std::string& path) {
    if (path.empty()) refuse("-f FILE|DIR is missing: a text, or a folder of texts (.txt, .md)");
    if (!fs::is_directory(path)) return {{fs::path(path).filename().string(), read_text_file(path)}};
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path)) {
        const fs::path kind = entry.path().extension();
        if (entry.is_regular_file() && (kind == ".txt" || kind == ".md")) files.push_back(entry.path());
    }
    if (files.empty()) fail(path + " has no .txt or .md files");
    std::sort(files.begin(), files.end());
    std::vector<eval::Document> documents;
    for (const fs::path& file : files) {
        documents.push_back({file.filename().string(), read_text_file(file.string())});
    }
    return documents;
}

std::vector<std::string> read_questions(const DocumentOptions& options) {
    std::vector<std::string> questions;
    for (const std::string& question : options.questions) {
        if (is_blank(question)) refuse("-q is empty: it takes a question");
        questions.push_back(checked_text(question, "the question of -q"));
    }
    if (options.question_file.empty()) return questions;
    std::istringstream lines(read_text_file(options.question_file));
    for (std::string line; std::getline(lines, line);) {
        if (!is_blank(line)) questions.push_back(line);
    }
    return questions;
}

eval::DocumentParams document_params(const EvalOptions& options, const DocumentOptions& own) {
    return {read_documents(options.data), read_questions(own), own.n_predict, options.limit.value_or(0)};
}

void check_room(const EvalOptions& options, const Model& model, const DocumentOptions& own) {
    const int n_ctx = context_size(options.model, model);
    if (own.n_predict >= n_ctx)
        refuse(format("-n %d leaves no room for a document in %d tokens", own.n_predict, n_ctx));
}

template <class Measure>
int eval_documents(const EvalOptions& options, const DocumentOptions& own) {
    const Measure measure(document_params(options, own));
    const Model model = Model::load(options.model.path, options.model.params);
    check_room(options, model, own);
    return run_eval(options, model, measure);
}

template <class Measure>
void add_command(CLI::App& eval, EvalOptions& options, const std::string& name, const std::string& summary) {
    CLI::App* command = eval.add_subcommand(name, summary);
    const auto own = std::make_shared<DocumentOptions>();
    command->option_defaults()->group("Questions");
    command->add_option("-q,--question", own->questions, "what to ask about every document; several times for more")
        ->type_name("TEXT")
        ->allow_extra_args(false);
    command->add_option("--questions", own->question_file, "a file of questions, one a line")->type_name("FILE");
    command
        ->add_option_function<std::string>(
            "-n,--predict",
            [own](const std::string& text) { own->n_predict = whole_number("-n", text, "a number of tokens", 1); },
            "tokens of an answer, at most (default 128)")
        ->type_name("N");
    add_eval_options(*command, options, "a text, or a folder of texts (.txt, .md)", "no more than N questions in all");
    command->callback(
        [&options, own] { options.chosen = [&options, own] { return eval_documents<Measure>(options, *own); }; });
}

}  // namespace

void add_eval_compare(CLI::App& eval, EvalOptions& options) {
    add_command<eval::Compare>(eval, options, "compare",
                               "How far methods are from FullKV's answers, on your own documents.");
}

void add_eval_oracle(CLI::App& eval, EvalOptions& options) {
    add_command<eval::Oracle>(eval, options, "oracle",
                              "How much of what an answer looks at methods keep, layer by layer.");
}

}  // namespace fastkv::cli
