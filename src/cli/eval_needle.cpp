// fastkv eval needle: a sentence in a long text, over lengths and depths.
#include <memory>
#include <sstream>

#include "cli/eval.h"
#include "cli/haystack.h"
#include "cli/number_list.h"
#include "cli/session_setup.h"
#include "cli/text.h"
#include "eval/needle.h"
#include "methods/values.h"

namespace fastkv::cli {

namespace {

const Choices<eval::NeedleProtocol> protocols = {{"chat", eval::NeedleProtocol::chat},
                                                 {"reference", eval::NeedleProtocol::reference},
                                                 {"reference-chat", eval::NeedleProtocol::reference_chat}};

// "10" is that many, evenly spread; "0,50,100" are those; "50%" is one.
std::vector<int> parse_depths(const std::string& text) {
    const bool counts = text.find_first_of(",%") == std::string::npos;
    if (counts) {
        return eval::even_depths(whole_number("--depths", text, "a number of depths", 1, 101));
    }
    std::vector<int> depths;
    std::istringstream items(text);
    for (std::string item; std::getline(items, item, ',');) {
        if (item.ends_with('%')) item.pop_back();
        depths.push_back(whole_number("--depths", item, "a depth in %", 0, 100));
    }
    return depths;
}

void check_lengths(const EvalOptions& options, const Model& model, const eval::NeedleParams& params) {
    const int n_ctx = context_size(options.model, model);
    for (const int length : params.lengths) {
        if (length + eval::needle_predict(params.protocol) <= n_ctx) continue;
        refuse(format("--lengths %d and an answer of %d tokens are beyond the context of %d", length,
                      eval::needle_predict(params.protocol), n_ctx));
    }
}

int eval_needle(const EvalOptions& options, eval::NeedleParams params) {
    params.limit = options.limit.value_or(0);
    const std::string haystack = haystack_text(options.data, "--data");
    const Model model = Model::load(options.model.path, options.model.params);
    check_lengths(options, model, params);
    const eval::Needle needle(model, params, haystack);
    return run_eval(options, model, needle);
}

}  // namespace

void add_eval_needle(CLI::App& eval, EvalOptions& options) {
    CLI::App* command = eval.add_subcommand("needle", "Find a sentence in a long text, over lengths and depths.");
    const auto params = std::make_shared<eval::NeedleParams>();
    params->depths = eval::even_depths(10);
    command->option_defaults()->group("Needle in a haystack");
    command
        ->add_option_function<std::string>(
            "--lengths", [params](const std::string& text) { params->lengths = parse_lengths("--lengths", text); },
            "lengths in tokens (default 1000,2000,4000)")
        ->type_name("N,N,...");
    command
        ->add_option_function<std::string>(
            "--depths", [params](const std::string& text) { params->depths = parse_depths(text); },
            "how many, from 0 to 100 %, or which: 0,50,100 (default 10)")
        ->type_name("N|N,N,...");
    command
        ->add_option_function<std::string>(
            "--protocol",
            [params](const std::string& text) { params->protocol = choose(protocols, "--protocol", text); },
            "chat: a question in the chat template\nreference: as the FastKV reference asks Llama, without one\n"
            "reference-chat: as it asks Mistral (default chat)")
        ->type_name("NAME");
    add_eval_options(*command, options, "a folder of texts, or one, to hide it in (default: the essays)",
                     "ask no more than the first N cells");
    command->callback(
        [&options, params] { options.chosen = [&options, params] { return eval_needle(options, *params); }; });
}

}  // namespace fastkv::cli
