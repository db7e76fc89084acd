// RULER's tasks: that prompts hold what their answers say, and are as long as they should be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "eval/ruler.h"
#include "eval/source_text.h"
#include "fastkv/error.h"
#include "support/message.h"

namespace fastkv::eval {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

using test::message_of;

// A tokenizer of four bytes to a token.
int count_bytes(const std::string& text) { return int(text.size() + 3) / 4; }

// Enough distinct words for long lists.
const Essays& essays() {
    static const Essays made = [] {
        std::string text = filler_text(3, 300);
        for (int i = 0; i < 26 * 26 * 3; ++i) {
            text.append(" w").append(1, char('a' + i % 26)).append(1, char('a' + i / 26 % 26));
            text.append(1, char('a' + i / 676)).append(i % 9 == 0 ? "rd." : "rd");
        }
        return essays_of(text);
    }();
    return made;
}

QaData qa_data() {
    std::string json = "{\"data\": [{\"paragraphs\": [";
    for (int i = 0; i < 300; ++i) {
        const std::string number = std::to_string(i);
        json += (i % 100 == 0 && i > 0 ? "]}, {\"paragraphs\": [" : i > 0 ? ", " : "");
        json += "{\"context\": \"Paragraph " + number + " tells of town " + number +
                ".\", \"qas\": [{\"question\": " + "\"Which town is in paragraph " + number +
                "?\", \"is_impossible\": false, \"answers\": [{\"text\": " + "\"town " + number +
                ".\"}, {\"text\": \"no such thing\"}]}, {\"question\": \"Why?\", " +
                "\"is_impossible\": true, \"answers\": []}]}";
    }
    return squad_data(json + "]}]}", "squad.json");
}

Fit fit_of(int n_tokens) { return {n_tokens, count_bytes}; }

// All tasks by name.
RulerPrompt prompt_of(const std::string& task, int length, uint64_t seed) {
    static const std::map<std::string, NiahParams> niah = {
        {"niah_single_1", {Haystack::noise, KeyKind::words, ValueKind::numbers}},
        {"niah_single_3", {Haystack::essay, KeyKind::words, ValueKind::uuids}},
        {"niah_multikey_1", {Haystack::essay, KeyKind::words, ValueKind::numbers, 4, 1, 1}},
        {"niah_multikey_3", {Haystack::needles, KeyKind::uuids, ValueKind::uuids}},
        {"niah_multivalue", {Haystack::essay, KeyKind::words, ValueKind::numbers, 1, 4, 1}},
        {"niah_multiquery", {Haystack::essay, KeyKind::words, ValueKind::numbers, 1, 1, 4}},
    };
    static const QaData qa = qa_data();
    const Fit fit = fit_of(length);
    if (const auto found = niah.find(task); found != niah.end())
        return make_niah(found->second, essays(), fit, Random(seed));
    if (task == "vt") return make_vt(fit, Random(seed));
    if (task == "cwe") return make_cwe(essays(), length, fit, Random(seed));
    if (task == "fwe") return make_fwe(length, fit, Random(seed));
    return make_qa(qa, int(seed), fit, Random(seed));
}

const std::vector<std::string> all_tasks = {"niah_single_1",
                                            "niah_single_3",
                                            "niah_multikey_1",
                                            "niah_multikey_3",
                                            "niah_multivalue",
                                            "niah_multiquery",
                                            "vt",
                                            "cwe",
                                            "fwe",
                                            "qa_1"};

size_t count_of(const std::string& text, const std::string& part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

TEST(Ruler, PromptsHoldTheirAnswers) {
    for (const std::string& task : all_tasks) {
        for (uint64_t seed = 1; seed <= 5; ++seed) {
            const RulerPrompt prompt = prompt_of(task, 2000, seed);
            ASSERT_FALSE(prompt.outputs.empty());
            for (const std::string& answer : prompt.outputs) {
                if (answer == "no such thing") continue;
                EXPECT_THAT(prompt.input, HasSubstr(answer)) << task;
            }
        }
    }
}

TEST(Ruler, PromptsFillTheirLengthAndNoMore) {
    for (const std::string& task : all_tasks) {
        // As many as one more unit would add: a line, a word in its repetitions, a document.
        const int unit = task == "cwe" ? 120 : task == "fwe" ? 30 : 40;
        for (const int length : {1000, 4096, 12000}) {
            const int n = count_bytes(prompt_of(task, length, 2).input);
            EXPECT_LE(n, length) << task;
            const bool is_bounded = task == "qa_1" && length > 3000;  // more than all documents
            const bool is_fixed = task == "cwe" && length == 1000;
            EXPECT_GE(n, is_bounded || is_fixed ? 1 : length - unit) << task << " " << length;
        }
    }
}

TEST(Ruler, PromptsAreTheSameForTheSameSeed) {
    for (const std::string& task : all_tasks) {
        EXPECT_EQ(prompt_of(task, 1500, 7).input, prompt_of(task, 1500, 7).input) << task;
        EXPECT_EQ(prompt_of(task, 1500, 7).outputs, prompt_of(task, 1500, 7).outputs) << task;
        EXPECT_NE(prompt_of(task, 1500, 7).input, prompt_of(task, 1500, 8).input) << task;
    }
}

TEST(Ruler, RefusesLengthsBelowTheTask) {
    for (const std::string& task : all_tasks) {
        EXPECT_THAT(message_of([&] { prompt_of(task, 20, 1); }), HasSubstr("too short for this task")) << task;
    }
}

TEST(RulerNiah, HidesAsManyNeedlesAsItSays) {
    const std::string mark = "One of the special magic number";
    EXPECT_EQ(count_of(prompt_of("niah_single_1", 2000, 1).input, mark), 1u);
    EXPECT_EQ(count_of(prompt_of("niah_multikey_1", 2000, 1).input, mark), 4u);
    EXPECT_EQ(count_of(prompt_of("niah_multivalue", 2000, 1).input, mark), 4u);
    EXPECT_EQ(count_of(prompt_of("niah_multiquery", 2000, 1).input, mark), 4u);
    EXPECT_EQ(prompt_of("niah_multikey_1", 2000, 1).outputs.size(), 1u);
    EXPECT_EQ(prompt_of("niah_multivalue", 2000, 1).outputs.size(), 4u);
    EXPECT_EQ(prompt_of("niah_multiquery", 2000, 1).outputs.size(), 4u);
    EXPECT_GT(count_of(prompt_of("niah_multikey_3", 2000, 1).input, "One of the special magic uuids"), 40u);
}

TEST(RulerNiah, AsksInRulersWords) {
    const RulerPrompt one = prompt_of("niah_multikey_3", 1500, 1);
    EXPECT_THAT(one.input,
                StartsWith("A special magic uuid is hidden within the following text. Make sure to memorize "
                           "it. I will quiz you about the uuid afterwards.\nOne of the special magic uuids "));
    EXPECT_THAT(one.input, ::testing::EndsWith(" mentioned in the provided text is"));
    const RulerPrompt four = prompt_of("niah_multiquery", 1500, 1);
    EXPECT_THAT(four.input, StartsWith("Some special magic numbers are hidden"));
    EXPECT_THAT(four.input, HasSubstr("\nWhat are all the special magic numbers for "));
    EXPECT_THAT(four.input, HasSubstr(", and "));
    EXPECT_THAT(four.input, ::testing::EndsWith(" mentioned in the provided text are"));
}

TEST(RulerNiah, AsksForTheKeyOfTheValue) {
    const RulerPrompt prompt = prompt_of("niah_multikey_3", 2000, 4);
    const size_t at = prompt.input.rfind("What is the special magic uuid for ") + 35;
    const std::string key = prompt.input.substr(at, 36);
    EXPECT_THAT(prompt.input,
                HasSubstr("One of the special magic uuids for " + key + " is: " + prompt.outputs[0] + "."));
    EXPECT_EQ(count_of(prompt.input, key), 3u) << "once in the text, twice in the question";
}

TEST(RulerVt, VariablesHaveTheValueThatIsAskedFor) {
    const RulerPrompt prompt = prompt_of("vt", 2000, 3);
    const size_t from = prompt.input.rfind("Memorize and track");
    ASSERT_GT(from, 100u) << "no example before";
    std::istringstream words(prompt.input.substr(from));
    std::map<std::string, std::string> values;
    for (std::string word; words >> word;) {
        if (word != "VAR") continue;
        std::string name, equals, value;
        words >> name >> equals >> value;
        if (equals != "=") continue;
        if (value == "VAR") words >> value, value = values.at(value);
        values[name] = value;
    }
    ASSERT_EQ(values.size(), 5u);
    ASSERT_EQ(prompt.outputs.size(), 5u);
    for (const std::string& name : prompt.outputs) {
        EXPECT_THAT(prompt.input, HasSubstr("5 variables are assgined the value " + values.at(name)));
    }
}

TEST(RulerCwe, AnswersAreTheMostCommonWords) {
    for (const int length : {2000, 5000}) {
        const RulerPrompt prompt = prompt_of("cwe", length, 3);
        std::istringstream words(prompt.input.substr(prompt.input.rfind("Below is a numbered list")));
        std::map<std::string, int> counts;
        int next = 1;
        for (std::string word; words >> word;) {
            if (word != std::to_string(next) + ".") continue;
            words >> word;
            ++counts[word];
            ++next;
        }
        const int common = length < 4096 ? 6 : 30, uncommon = length < 4096 ? 1 : 3;
        int n_common = 0;
        for (const auto& [word, n] : counts) {
            EXPECT_TRUE(n == common || n == uncommon) << word << " " << n;
            n_common += n == common ? 1 : 0;
        }
        EXPECT_EQ(n_common, 10);
        ASSERT_EQ(prompt.outputs.size(), 10u);
        for (const std::string& word : prompt.outputs) EXPECT_EQ(counts[word], common) << word;
    }
}

TEST(RulerFwe, AnswersAreTheMostFrequentWords) {
    const RulerPrompt prompt = prompt_of("fwe", 3000, 3);
    std::istringstream words(prompt.input);
    std::map<std::string, int> counts;
    for (std::string word; words >> word;) {
        if (word.size() == 6 && std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; })) {
            ++counts[word];
        }
    }
    std::vector<std::pair<int, std::string>> ranked;
    for (const auto& [word, n] : counts) ranked.emplace_back(n, word);
    std::sort(ranked.rbegin(), ranked.rend());
    EXPECT_THAT(prompt.outputs, ElementsAre(ranked[0].second, ranked[1].second, ranked[2].second));
    EXPECT_GT(ranked[2].first, ranked[3].first) << "no tie between the third and the fourth";
    EXPECT_NEAR(double(ranked[0].first) / ranked[2].first, 4, 0.1) << "as 1/2^2 to 1/4^2";
}

TEST(RulerQa, HasTheDocumentOfItsQuestion) {
    const RulerPrompt prompt = prompt_of("qa_1", 1000, 120);
    EXPECT_THAT(prompt.outputs, ElementsAre("town 120.", "no such thing"));
    EXPECT_THAT(prompt.input, HasSubstr(":\nParagraph 120 tells"));
    EXPECT_THAT(prompt.input, HasSubstr("Question: Which town is in paragraph 120? Answer:"));
}

TEST(RulerQa, ReadsHotpotQa) {
    const QaData data = hotpotqa_data(
        "[{\"question\": \"Who?\", \"answer\": \"she\", \"context\": [[\"T\", [\"A. \", "
        "\"B.\"]], [\"U\", [\"C.\"]]]}]",
        "h.json");
    EXPECT_THAT(data.documents, UnorderedElementsAre("T\nA. B.", "U\nC."));
    EXPECT_THAT(make_qa(data, 0, fit_of(400), Random(1)).input, HasSubstr(":\nT\nA. B."));
    EXPECT_THAT(message_of([] { hotpotqa_data("{", "h.json"); }), StartsWith("h.json is no file of HotpotQA"));
    EXPECT_THAT(message_of([] { squad_data("[]", "s.json"); }), StartsWith("s.json is no file of SQuAD"));
}

TEST(RulerScore, CountsReferencesOrAnyOfThem) {
    EXPECT_EQ(ruler_score("niah_multivalue", "1 and 3", {"1", "2", "3", "4"}), 0.5);
    EXPECT_EQ(ruler_score("qa_1", "in PARIS", {"paris", "Paris, France"}), 1);
    EXPECT_EQ(ruler_score("qa_2", "London", {"paris"}), 0);
}

TEST(RulerScore, GivesAnswersTheTokensOfTheirTask) {
    EXPECT_EQ(ruler_answer_tokens("niah_single_1", RulerAnswers::official), 128);
    EXPECT_EQ(ruler_answer_tokens("vt", RulerAnswers::official), 30);
    EXPECT_EQ(ruler_answer_tokens("cwe", RulerAnswers::official), 120);
    EXPECT_EQ(ruler_answer_tokens("cwe", RulerAnswers::reference), 64);
    EXPECT_EQ(ruler_tasks().size(), 13u);
    EXPECT_EQ(ruler_tasks_without_qa().size(), 11u);
}

TEST(RulerRows, NameFileAndLineOfWhatIsWrong) {
    const auto rows = [](const std::string& content) {
        const RulerFile file{"vt", 4096, json_lines(content, "vt.jsonl"), 0};
        return RulerRows({file}, 0, RulerAnswers::official).samples().size();
    };
    EXPECT_EQ(rows("{\"input\": \"x\", \"outputs\": [\"y\"]}\n{\"input\": \"x\", \"outputs\": [\"y\"]}"), 2u);
    EXPECT_THAT(message_of([&] { rows("{\"input\": \"x\", \"outputs\": [\"y\"]}\n{\"outputs\": [\"y\"]}"); }),
                HasSubstr("vt.jsonl: line 2 has no \"input\""));
    EXPECT_THAT(message_of([&] { rows("{\"input\": \"x\", \"outputs\": []}"); }),
                HasSubstr("line 1: \"outputs\" is empty"));
}

}  // namespace
}  // namespace fastkv::eval
