#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "text/json.h"
#include "tune/asker.h"

namespace fastkv::tune {

namespace {

using Json = nlohmann::ordered_json;

std::string key_of(const std::string& engine, const std::string& prompt, const std::string& method) {
    return engine + "\n" + prompt + "\n" + method;
}

// A line of another program, or one that was cut off, is no answer.
bool read_line(const std::string& line, std::map<std::string, Answer>& answers) {
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    try {
        Answer answer{.score = json.at("score").get<double>(),
                      .right = json.at("right").get<bool>(),
                      .text = json.at("answer").get<std::string>(),
                      .n_prompt = json.at("n_prompt").get<int>(),
                      .seconds = json.at("seconds").get<double>(),
                      .reused = true};
        answers[key_of(json.at("engine"), json.at("prompt"), json.at("method"))] = std::move(answer);
        return true;
    } catch (const Json::exception&) {
        return false;
    }
}

double rounded(double value) { return std::round(value * 1e3) / 1e3; }

}  // namespace

std::string answer_json(const RetrievalPrompt& prompt, const std::string& method, const std::string& engine,
                        const Answer& answer) {
    Json json;
    json["kind"] = prompt.kind;
    json["index"] = prompt.index;
    json["length"] = prompt.length;
    json["n_prompt"] = answer.n_prompt;
    if (prompt.depth >= 0) json["depth"] = rounded(prompt.depth);
    json["method"] = method;
    json["right"] = answer.right;
    json["score"] = answer.score;
    json["answer"] = answer.text;
    json["wanted"] = prompt.answers;
    json["seconds"] = rounded(answer.seconds);
    json["prompt"] = prompt.hash();
    json["engine"] = engine;
    return text::json_text(json);
}

AnswerFile::AnswerFile(const std::string& path, std::string engine) : path_(path), engine_(std::move(engine)) {
    if (path_.empty()) return;
    bool whole = true;
    if (std::ifstream in(path_, std::ios::binary); in) {
        for (std::string line; std::getline(in, line);) {
            whole = !in.eof();  // the last line may have been cut off
            read_line(line, answers_);
        }
    }
    std::ofstream out(path_, std::ios::binary | std::ios::app);
    if (!whole) out << '\n';
    if (!out.flush()) fail("--answers " + path_ + ": cannot write: " + std::strerror(errno));
}

const Answer* AnswerFile::find(const RetrievalPrompt& prompt, const std::string& method) const {
    const auto found = answers_.find(key_of(engine_, prompt.hash(), method));
    return found == answers_.end() ? nullptr : &found->second;
}

void AnswerFile::add(const RetrievalPrompt& prompt, const std::string& method, const Answer& answer) {
    Answer& kept = answers_[key_of(engine_, prompt.hash(), method)] = answer;
    kept.reused = true;
    if (path_.empty()) return;
    std::ofstream out(path_, std::ios::binary | std::ios::app);
    out << answer_json(prompt, method, engine_, answer) << '\n';
    if (!out.flush()) fail("--answers " + path_ + ": cannot write: " + std::strerror(errno));
}

}  // namespace fastkv::tune
