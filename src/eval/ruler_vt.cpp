// RULER's variable tracking.
#include <algorithm>
#include <set>

#include "eval/ruler_prompts.h"

namespace fastkv::eval {

namespace {

const std::string noise = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";

constexpr int n_hops = 4;            // assignments after the first
constexpr int example_tokens = 500;  // that the example takes, its answer included
constexpr int example_answer = 30;

struct Chain {
    std::vector<std::string> variables;  // [n_hops + 1]
    std::string value;
    std::vector<std::string> statements;
};

Chain make_chain(int n_letters, Random& random) {
    Chain chain;
    std::set<std::string> used;
    while (int(chain.variables.size()) <= n_hops) {
        std::string name;
        for (int i = 0; i < n_letters; ++i) name += char('A' + random.below(26));
        if (used.insert(name).second) chain.variables.push_back(name);
    }
    chain.value = std::to_string(10000 + random.below(89999));
    chain.statements.push_back("VAR " + chain.variables[0] + " = " + chain.value);
    for (size_t i = 1; i < chain.variables.size(); ++i) {
        chain.statements.push_back("VAR " + chain.variables[i] + " = VAR " + chain.variables[i - 1] + " ");
    }
    return chain;
}

// The statements at random places between `n_noises` lines, in their order.
std::string text_of(const Chain& chain, int n_noises, Random random) {
    std::vector<std::string> sentences(size_t(n_noises), noise);
    std::vector<int> places = sample_numbers(int(chain.statements.size()), n_noises, random);
    std::sort(places.begin(), places.end());
    for (size_t i = 0; i < places.size(); ++i) {
        sentences.insert(sentences.begin() + places[i] + std::ptrdiff_t(i), chain.statements[i]);
    }
    return join(sentences, " ");
}

// "assgined" is RULER's spelling.
std::string task_of(const Chain& chain, const std::string& text) {
    return "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n" + text +
           "\nQuestion: Find all variables that are assigned the value " + chain.value +
           " in the text above. Answer: According to the chain(s) of variable assignment in the text above, " +
           std::to_string(chain.variables.size()) + " variables are assgined the value " + chain.value + ", they are: ";
}

}  // namespace

RulerPrompt make_vt(const Fit& fit, Random random) {
    const Chain shown = make_chain(3, random), asked = make_chain(5, random);
    const Random shown_places(random.next()), asked_places(random.next());
    const int least = int(asked.statements.size());
    const auto build_example = [&](int n_noises) { return task_of(shown, text_of(shown, n_noises, shown_places)); };
    // A tokenizer that knows no words may need more for the shortest example.
    const Fit fit_example{std::max(example_tokens - example_answer, fit.count(build_example(least))), fit.count};
    const std::string example =
        build_example(fit_example.largest(least, example_tokens, build_example)) + join(shown.variables, " ") + "\n\n";
    const auto build = [&](int n_noises) { return example + task_of(asked, text_of(asked, n_noises, asked_places)); };
    return {build(fit.largest(least, fit.n_tokens, build)), asked.variables};
}

}  // namespace fastkv::eval
