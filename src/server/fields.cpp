#include "server/fields.h"

#include <utility>

#include "text/format.h"

namespace fastkv::server {

using nlohmann::json;
using text::format;

namespace {

/// No request needs more; and what copies or writes a value calls itself for every level of it.
constexpr int max_depth = 64;

/// Values within values, brackets in texts left out. Of what is no JSON it says more than there is, never less.
bool nests_too_deep(const std::string& body) {
    int depth = 0;
    bool in_text = false;
    for (size_t i = 0; i < body.size(); ++i) {
        const char c = body[i];
        if (c == '"') in_text = !in_text;
        if (in_text && c == '\\') ++i;  // whatever is escaped is part of the text
        if (in_text) continue;
        if (c == '[' || c == '{') ++depth;
        if (c == ']' || c == '}') --depth;
        if (depth > max_depth) return true;
    }
    return false;
}

}  // namespace

Result<json> parse_object(const std::string& body) {
    if (nests_too_deep(body)) {
        return ApiError{.message = "the body nests values deeper than " + std::to_string(max_depth) + " levels"};
    }
    json object = json::parse(body, nullptr, /*allow_exceptions=*/false);
    if (object.is_discarded()) return ApiError{.message = "the body is not valid JSON"};
    if (!object.is_object()) return ApiError{.message = "the body is not a JSON object"};
    return object;
}

const json* Fields::find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void Fields::refuse(const std::string& param, const std::string& message) {
    if (!error_) error_ = ApiError{.message = param + ": " + message, .param = param};
}

bool Fields::flag(const char* name, bool otherwise) {
    const json* value = find(name);
    if (!value) return otherwise;
    if (!value->is_boolean()) refuse(name, "must be true or false");
    return value->is_boolean() ? value->get<bool>() : otherwise;
}

std::optional<int64_t> Fields::integer(const char* name, int64_t least, int64_t most) {
    const auto value = number(name, double(least), double(most));
    if (!value) return {};
    if (*value != double(int64_t(*value))) {
        refuse(name, "must be a whole number");
        return {};
    }
    return int64_t(*value);
}

std::optional<double> Fields::number(const char* name, double least, double most) {
    const json* value = find(name);
    if (!value) return {};
    if (!value->is_number()) {
        refuse(name, "must be a number");
        return {};
    }
    const double number = value->get<double>();
    if (number >= least && number <= most) return number;
    refuse(name, format("%g is outside [%.15g, %.15g]", number, least, most));
    return {};
}

std::optional<std::string> Fields::text(const char* name) {
    const json* value = find(name);
    if (!value) return {};
    if (value->is_string()) return value->get<std::string>();
    refuse(name, "must be a text");
    return {};
}

std::vector<std::string> Fields::texts(const char* name) {
    const json* value = find(name);
    if (!value) return {};
    if (value->is_string()) return {value->get<std::string>()};
    std::vector<std::string> texts;
    for (const json& item : value->is_array() ? *value : json::array({nullptr})) {
        if (!item.is_string()) {
            refuse(name, "must be a text or a list of texts");
            return {};
        }
        texts.push_back(item.get<std::string>());
    }
    return texts;
}

std::optional<std::vector<Token>> Fields::tokens(const char* name, int n_vocab) {
    const json* value = find(name);
    if (!value) return {};
    std::vector<Token> tokens;
    if (read_tokens(*value, n_vocab, tokens)) return tokens;
    refuse(name, format("must be a list of token ids below %d", n_vocab));
    return {};
}

bool read_tokens(const json& list, int n_vocab, std::vector<Token>& tokens) {
    if (!list.is_array()) return false;
    for (const json& item : list) {
        if (!item.is_number_integer()) return false;
        const auto id = item.is_number_unsigned() && item.get<uint64_t>() > INT32_MAX ? -1 : item.get<int64_t>();
        if (id < 0 || id >= n_vocab) return false;
        tokens.push_back(Token(id));
    }
    return true;
}

}  // namespace fastkv::server
