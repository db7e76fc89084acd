#!/usr/bin/env python3
"""Makes longbench_scores.json: texts and their scores by the Python packages that LongBench's results are defined with.

    python3 -m venv v && v/bin/pip install rouge==1.0.1 fuzzywuzzy==0.18.0 && v/bin/python make_longbench_scores.py

python-Levenshtein must not be installed: fuzzywuzzy then counts with it instead of difflib. What LongBench's own script
adds around the packages is written here again from its description.
"""
import collections
import json
import pathlib
import platform
import random
import re
import string
import sys
import unicodedata
import warnings
from importlib import metadata

warnings.filterwarnings("ignore")  # fuzzywuzzy praises python-Levenshtein
from fuzzywuzzy import fuzz  # noqa: E402
from rouge import Rouge  # noqa: E402

assert fuzz.SequenceMatcher.__module__ == "difflib", "python-Levenshtein is installed"


# --- the scores -------------------------------------------------------------------------------------------------------

def qa_f1(prediction, reference):
    def words(text):
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    predicted, wanted = words(prediction), words(reference)
    common = sum((collections.Counter(predicted) & collections.Counter(wanted)).values())
    if common == 0:
        return 0
    precision, recall = common / len(predicted), common / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def frames():
    frame, count = sys._getframe(1), 0
    while frame:
        frame, count = frame.f_back, count + 1
    return count


def rouge_l(prediction, reference):
    # In LongBench's script this function is the third frame: module, scorer, score.
    sys.setrecursionlimit(1000 - 3 + frames())
    try:
        return Rouge().get_scores([prediction], [reference], avg=True)["rouge-l"]["f"]
    except Exception:  # RecursionError and ValueError alike
        return 0.0
    finally:
        sys.setrecursionlimit(10000)


def classification(prediction, reference, classes):
    named = [name for name in classes if name in prediction]
    for name in named:
        if name in reference and name != reference:
            named.remove(name)
    return 1.0 / len(named) if reference in named else 0.0


def share_of_numbers(prediction, number):
    numbers = re.findall(r"\d+", prediction)
    return 0.0 if not numbers else sum(found == number for found in numbers) / len(numbers)


def retrieval(prediction, reference):
    return share_of_numbers(prediction, re.findall(r"Paragraph (\d+)", reference)[0])


def code_similarity(prediction, reference):
    code = ""
    for line in prediction.lstrip("\n").split("\n"):
        if "`" not in line and "#" not in line and "//" not in line:
            code = line
            break
    return fuzz.ratio(code, reference) / 100


def first_line(prediction):
    return prediction.lstrip("\n").split("\n")[0]


# --- the texts --------------------------------------------------------------------------------------------------------

rng = random.Random(20260214)
ODD = ["", " ", "\n", "\n\n", ".", "...", " . ", ". .", "!?", "a", "The", "an the a", "_", "a_b", "the-end", "a.b.c.",
       "No", "no.", "NO!", "Ünïcödé", "ÜNÏCÖDÉ", "İstanbul", "istanbul", "ΟΔΟΣ", "οδος", "ΑΣ ΣΑΣ", "straße", "STRASSE",
       "naïve café", "naive\u0301 cafe\u0301", "a\u0301 the\u0301", "北京 是 首都", "北京。首都", "１２３ ١٢٣ 123",
       "²³ ½ Ⅷ", "x\u00a0y", "x\u2003y\u2028z", "x\x1cy\x1dz", "x\x85y", "x\u200by", "\ufeffa", "🙂 the 🙂", "e\u0327",
       "'the'", "the's", "1,000", "1000", "$1,000.00", "¿qué?", "“quoted”", "\"quoted\"", "tab\tand\rreturn", "\ufffd",
       "Dr. No", "3.14", "A. B. C.", "the the the", "answer answer", "NEWLINE_CHAR", "\u0130\u0131", "ﬁne", "ǅ ǆ Ǆ"]
WORDS = ("the a an of report says that committee members were asked on Monday whether new rules would cost more than "
         "old ones and nobody knew").split()


def sentence(n, vocabulary):
    return " ".join(rng.choice(vocabulary) for _ in range(n))


def text(n_sentence, n_word, vocabulary, end=". "):
    return end.join(sentence(rng.randint(1, n_word), vocabulary) for _ in range(n_sentence))


def mutated(source, alphabet, share):
    out = []
    for c in source:
        roll = rng.random()
        if roll < share / 3:
            continue
        out.append(rng.choice(alphabet) if roll < share else c)
        if roll > 1 - share / 3:
            out.append(rng.choice(alphabet))
    return "".join(out)


def pairs_of_odd(count):
    return [(t, t) for t in ODD] + [(rng.choice(ODD), rng.choice(ODD)) for _ in range(count)]


def qa_pairs():
    yield from pairs_of_odd(40)
    for _ in range(40):
        reference = sentence(rng.randint(1, 6), WORDS)
        yield reference.title() + rng.choice([".", "", "!", " the"]), sentence(rng.randint(1, 6), WORDS)
        yield "The answer is " + reference + ".", reference


def rouge_pairs():
    yield from pairs_of_odd(30)
    few = ["a", "b", "c"]
    for _ in range(50):  # ties: three words, so that many subsequences are equally long
        yield text(rng.randint(1, 4), 8, few), text(rng.randint(1, 4), 8, few)
    for end in [". ", ".", "...", ".\n\n", " .  . "]:
        for _ in range(6):
            yield text(5, 14, WORDS, end) + end, text(4, 14, WORDS, end) + rng.choice(["", end, "\n"])
    line = text(1, 9, WORDS)
    yield "\n".join([line] * 40), line  # a model that repeats itself
    yield ". ".join([line] * 40), line + ". " + text(3, 9, WORDS)
    for n in (989, 990, 991, 1200):  # around the recursion limit, of equal sentences
        yield " ".join(["w"] * n), " ".join(["w"] * n)
    for n in (989, 990, 991):  # and of sentences that have nothing in common: left, word by word
        yield " ".join(["w"] * n), "v"
        yield "w", " ".join(["v"] * n)
    yield " ".join(["w"] * 1100) + ". short", "short"


def class_rows():
    trec = ["Food", "Date", "Order, rank", "Speed", "Disease and medicine", "Word with a special property",
            "Abbreviation", "Language", "Letter like a-z", "Other entity", "Animal", "Expression abbreviated", "Price",
            "Techniques and method", "Musical instrument", "Mountain", "Currency name", "Event", "Product", "Individual",
            "Reason", "Definition of something", "Vehicle", "Number of something", "City", "Other location",
            "Lasting time of somethin", "Title of a person", "Other number", "Description of a person", "Group or "
            "organization of person", "Country", "State", "Person", "person"]
    nested = ["a", "ab", "abc", "b", "bc", "c", "abcd", "ab", "ab c"]
    for _ in range(30):
        reference = rng.choice(trec)
        yield rng.choice(["Type: ", "", "It is "]) + rng.choice([reference, rng.choice(trec)]) + rng.choice(
            ["", " " + rng.choice(trec), "\n" + reference]), reference, trec
    for _ in range(40):  # classes that are parts of each other: here the list is changed while it is walked
        yield "".join(rng.choice("abcd ") for _ in range(rng.randint(0, 8))), rng.choice(nested), nested
    yield "", "a", nested
    yield "a", "a", []
    yield "abc abc", "abc", ["a", "b", "c", "abc"]
    yield "x a", "xa", ["a", "a", "xa"]


def number_rows():
    for prediction in ["", "none", "5", "5 5 5", "5 6", "There are 5.", "05", "5.5", "15", "-5", "5,000", "１５ 5", "٥",
                       "five 5", "5\n6\n7", "5²", "Paragraph 5", "Paragraph 5 or Paragraph 6", "paragraph5"]:
        for number in ["5", "15", "٥"]:
            yield prediction, number


def code_pairs():
    yield from pairs_of_odd(30)
    lines = ["        return self._value", "for (int i = 0; i < n; i++) {", "def f(x): return x + 1",
             "if err != nil {", "    public static void main(String[] args) {", "}", "", "        "]
    for _ in range(40):
        reference = rng.choice(lines)
        noise = rng.choice(["", "\n", "\n\n", "```python\n", "# a comment\n", "// a comment\n", "```\n# one\n"])
        yield noise + mutated(reference, "abc (){};=+", 0.3) + rng.choice(["", "\n" + reference, "`"]), reference
    for length in (198, 199, 200, 201, 250, 400, 700):  # at 200 characters the junk begins
        for alphabet in ("ab", "abcdefgh", string.ascii_lowercase + "  ", "äöü漢字かな"):
            reference = "".join(rng.choice(alphabet) for _ in range(length))
            yield mutated(reference, alphabet, 0.2), reference
            yield reference[: length // 2], reference
    long = "x" * 250
    yield long, "x" * 249 + "y"
    yield "x" * 249 + "y", long
    yield long + "abcdef", "abcdef" + long


SETS = {"narrativeqa": qa_f1, "gov_report": rouge_l, "trec": classification, "triviaqa": qa_f1, "samsum": rouge_l,
        "passage_count": share_of_numbers, "passage_retrieval_en": retrieval, "lcc": code_similarity}


def set_rows(name):
    """Rows of a set, several answers each, and what LongBench's script makes of them."""
    rows = []
    classes = ["City", "Country", "Other", "Other number"]
    for i in range(rng.choice([3, 7, 11])):
        if name == "trec":
            answers = [rng.choice(classes)]
            prediction = "\n" * rng.randint(0, 2) + rng.choice(classes) + "\n" + rng.choice(classes)
        elif name.startswith("passage"):
            number = str(rng.randint(1, 4))
            answers = [number if name == "passage_count" else "Paragraph " + number]
            prediction = rng.choice(["Paragraph %d", "%d", "%d 4"]) % rng.randint(1, 4)
        else:
            answers = [text(2, 5, WORDS) for _ in range(rng.randint(1, 3))]
            prediction = "\n" * rng.randint(0, 2) + text(2, 5, WORDS) + "\n" + rng.choice(answers)
        rows.append({"pred": prediction, "answers": answers, "length": rng.choice([10, 3999, 4000, 7999, 8000, 20000]),
                     "all_classes": classes if name == "trec" else None})
    return rows


def best(name, row):
    prediction = first_line(row["pred"]) if name in ("trec", "triviaqa", "samsum") else row["pred"]
    extra = (row["all_classes"],) if name == "trec" else ()
    return max([0.0] + [SETS[name](prediction, answer, *extra) for answer in row["answers"]])


def set_score(name):
    rows = set_rows(name)
    scores = [best(name, row) for row in rows]
    buckets = {"0-4k": [], "4-8k": [], "8k+": []}
    for row, score in zip(rows, scores):
        buckets["0-4k" if row["length"] < 4000 else "4-8k" if row["length"] < 8000 else "8k+"].append(score)
    return {"dataset": name, "rows": rows, "scores": scores, "score": round(100 * sum(scores) / len(scores), 2),
            "longbench_e": {k: round(100 * (sum(v) / len(v)), 2) if v else None for k, v in buckets.items()}}


def main():
    vectors = {
        "made_with": {"python": platform.python_version(), "unicode": unicodedata.unidata_version,
                      **{name: metadata.version(name) for name in ("rouge", "fuzzywuzzy")}},
        "qa_f1": [[p, r, qa_f1(p, r)] for p, r in qa_pairs()],
        "rouge_l": [[p, r, rouge_l(p, r)] for p, r in rouge_pairs()],
        "classification": [[p, r, c, classification(p, r, c)] for p, r, c in class_rows()],
        "count": [[p, n, share_of_numbers(p, n)] for p, n in number_rows()],
        "retrieval": [[p, "Paragraph " + n, retrieval(p, "Paragraph " + n)] for p, n in number_rows()],
        "code_similarity": [[p, r, code_similarity(p, r)] for p, r in code_pairs()],
        "first_line": [[t, first_line(t)] for t in ODD + ["one\ntwo", "\n\none\ntwo", "\n \none"]],
        "sets": [set_score(name) for name in SETS for _ in range(2)],
    }
    out = pathlib.Path(__file__).with_name("longbench_scores.json")
    # A line for every vector.
    parts = []
    for key, value in vectors.items():
        rows = value if isinstance(value, list) else [value]
        lines = ",\n".join(json.dumps(row) for row in rows)
        parts.append(f'"{key}": ' + (f"[\n{lines}\n]" if isinstance(value, list) else lines))
    out.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    print({k: len(v) for k, v in vectors.items()}, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
