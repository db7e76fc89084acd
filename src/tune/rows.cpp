// Rows that somebody else made: RULER's, LongBench's, or one's own.
#include <nlohmann/json.hpp>

#include "eval/json_lines.h"
#include "fastkv/error.h"
#include "tune/prompts.h"

namespace fastkv::tune {

namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& row, const char* key) {
    const auto found = row.find(key);
    return found != row.end() && found->is_string() ? found->get<std::string>() : "";
}

std::vector<std::string> answers_of(const Json& row) {
    for (const char* key : {"outputs", "answers"}) {
        const auto found = row.find(key);
        if (found == row.end()) continue;
        if (found->is_string()) return {found->get<std::string>()};
        std::vector<std::string> answers;
        for (const Json& answer : *found) {
            if (answer.is_string()) answers.push_back(answer.get<std::string>());
        }
        return answers;
    }
    return {};
}

RetrievalPrompt prompt_of(const Json& row) {
    RetrievalPrompt prompt;
    prompt.message = text_of(row, "context");
    for (const char* key : {"input", "question"}) {
        const std::string part = text_of(row, key);
        if (!part.empty()) prompt.message += (prompt.message.empty() ? "" : "\n\n") + part;
    }
    prompt.answers = answers_of(row);
    prompt.n_predict = 64;  // as the reference evaluates every task of RULER
    return prompt;
}

}  // namespace

std::vector<RetrievalPrompt> read_rows(std::string_view content, const std::string& name) {
    std::vector<RetrievalPrompt> prompts;
    for (const eval::JsonLine& line : eval::json_lines(content, name)) {
        RetrievalPrompt prompt = prompt_of(line.json);
        if (prompt.message.empty()) fail(line.where + " has no text under \"input\", \"question\" or \"context\"");
        if (prompt.answers.empty()) fail(line.where + " has no text under \"outputs\" or \"answers\"");
        prompt.kind = name;
        prompt.index = int(prompts.size());
        prompts.push_back(std::move(prompt));
    }
    if (prompts.empty()) fail(name + " has no rows");
    return prompts;
}

}  // namespace fastkv::tune
