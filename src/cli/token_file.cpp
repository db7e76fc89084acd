#include "cli/token_file.h"

#include <nlohmann/json.hpp>

#include "cli/input_text.h"
#include "cli/text.h"
#include "fastkv/error.h"

namespace fastkv::cli {

std::vector<int64_t> read_token_ids(const std::string& path) {
    const std::string wanted = ": wanted a JSON array of token ids, or an object with \"prompt_tokens\"";
    const auto json = nlohmann::json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) fail(path + " is not JSON" + wanted);
    const auto* array = &json;
    if (json.is_object()) {
        if (!json.contains("prompt_tokens")) fail(path + " has no \"prompt_tokens\"" + wanted);
        array = &json.at("prompt_tokens");
    }
    if (!array->is_array()) fail(path + wanted);
    std::vector<int64_t> ids;
    for (const auto& id : *array) {
        if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<uint64_t>() > uint64_t(INT64_MAX))) {
            fail(format("%s: element %zu is not a token id", path.c_str(), ids.size()));
        }
        ids.push_back(id.get<int64_t>());
    }
    if (ids.empty()) refuse(path + ": the prompt is empty");
    return ids;
}

std::vector<Token> checked_tokens(const std::vector<int64_t>& ids, const std::string& path, int n_vocab) {
    std::vector<Token> tokens;
    for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0 || ids[i] >= n_vocab) {
            fail(format("%s: token %lld at index %zu is outside the vocabulary of %d", path.c_str(),
                        static_cast<long long>(ids[i]), i, n_vocab));
        }
        tokens.push_back(Token(ids[i]));
    }
    return tokens;
}

}  // namespace fastkv::cli
