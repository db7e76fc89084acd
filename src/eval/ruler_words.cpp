#include "eval/ruler_words.h"

#include <array>

namespace fastkv::eval {

namespace {

constexpr std::array adjectives = {
    "able",     "acidic", "active",  "agile",    "amber",   "ancient", "arctic",  "autumn",  "azure",   "basic",
    "bitter",   "blunt",  "bold",    "brave",    "breezy",  "brief",   "bright",  "broad",   "bronze",  "bumpy",
    "busy",     "calm",   "candid",  "careful",  "cheap",   "chief",   "chilly",  "civil",   "clean",   "clear",
    "clever",   "cloudy", "clumsy",  "coarse",   "cold",    "common",  "cosmic",  "cozy",    "crisp",   "curious",
    "curly",    "daily",  "damp",    "daring",   "dark",    "deep",    "dense",   "dim",     "distant", "double",
    "dry",      "dusty",  "eager",   "early",    "eastern", "easy",    "elastic", "elegant", "empty",   "exact",
    "faded",    "faint",  "fair",    "famous",   "fancy",   "fast",    "fertile", "final",   "firm",    "flat",
    "fluffy",   "foggy",  "formal",  "fragile",  "frank",   "fresh",   "frosty",  "full",    "gentle",  "giant",
    "glad",     "global", "golden",  "graceful", "grand",   "gray",    "green",   "hairy",   "handy",   "happy",
    "hard",     "harsh",  "hasty",   "heavy",    "hidden",  "hollow",  "honest",  "huge",    "humble",  "hungry",
    "icy",      "ideal",  "idle",    "inner",    "ivory",   "jolly",   "keen",    "kind",    "large",   "late",
    "lavish",   "lazy",   "legal",   "light",    "likely",  "little",  "lively",  "local",   "lonely",  "long",
    "loose",    "loud",   "loyal",   "lucky",    "lunar",   "mellow",  "merry",   "mighty",  "mild",    "minor",
    "misty",    "modern", "modest",  "moist",    "muddy",   "mute",    "narrow",  "neat",    "noble",   "noisy",
    "northern", "odd",    "olive",   "open",     "orange",  "outer",   "pale",    "patient", "plain",   "polite",
    "proud",    "public", "purple",  "quick",    "quiet",   "rapid",   "rare",    "raw",     "ready",   "regal",
    "remote",   "rich",   "rigid",   "ripe",     "robust",  "rough",   "round",   "royal",   "rural",   "rusty",
    "salty",    "sandy",  "secret",  "sharp",    "shiny",   "short",   "shy",     "silent",  "silver",  "simple",
    "sleek",    "slim",   "slow",    "smooth",   "snowy",   "soft",    "solar",   "solid",   "sour",    "southern",
    "spare",    "spicy",  "square",  "steady",   "steep",   "stiff",   "strict",  "strong",  "sturdy",  "subtle",
    "sunny",    "swift",  "tall",    "tame",     "tender",  "thick",   "thin",    "tidy",    "tiny",    "tough",
    "tropical", "upper",  "urban",   "useful",   "vague",   "vast",    "velvet",  "violet",  "vivid",   "warm",
    "wary",     "weak",   "western", "wet",      "whole",   "wide",    "wild",    "windy",   "wise",    "wooden",
    "woolly",   "young",  "zesty"};

constexpr std::array nouns = {
    "acorn",     "actor",    "airport",  "album",    "almond",   "anchor",   "ankle",    "antler",   "apple",
    "apricot",   "apron",    "arch",     "armor",    "arrow",    "artist",   "atlas",    "attic",    "autumn",
    "avenue",    "badge",    "bakery",   "balcony",  "ballad",   "bamboo",   "banjo",    "banner",   "barrel",
    "basin",     "basket",   "battery",  "beach",    "beacon",   "beaver",   "bell",     "bench",    "berry",
    "bicycle",   "blanket",  "blossom",  "boat",     "bonfire",  "book",     "bottle",   "boulder",  "bowl",
    "bracelet",  "branch",   "bread",    "brick",    "bridge",   "broom",    "bucket",   "buffalo",  "button",
    "cabin",     "cactus",   "camel",    "camera",   "canal",    "candle",   "canoe",    "canvas",   "canyon",
    "captain",   "caravan",  "carpet",   "carrot",   "castle",   "cave",     "cedar",    "cellar",   "chalk",
    "chapel",    "cherry",   "chess",    "chimney",  "circle",   "citadel",  "clarinet", "cliff",    "clock",
    "cloud",     "clover",   "coast",    "cobweb",   "coconut",  "comet",    "compass",  "copper",   "coral",
    "corner",    "cottage",  "cotton",   "cousin",   "cradle",   "crane",    "crater",   "crayon",   "cricket",
    "crown",     "crystal",  "cupboard", "curtain",  "cushion",  "dancer",   "desert",   "desk",     "diamond",
    "dinner",    "dolphin",  "donkey",   "door",     "dragon",   "drawer",   "drum",     "eagle",    "echo",
    "elbow",     "elephant", "ember",    "engine",   "envelope", "eraser",   "fabric",   "falcon",   "farmer",
    "feather",   "fence",    "fern",     "ferry",    "festival", "fiddle",   "finger",   "flag",     "flame",
    "flannel",   "flute",    "forest",   "fork",     "fortress", "fossil",   "fountain", "fox",      "frame",
    "funnel",    "galaxy",   "garage",   "garden",   "garlic",   "gate",     "ginger",   "glacier",  "globe",
    "glove",     "goat",     "gondola",  "grape",    "guitar",   "hammer",   "hammock",  "harbor",   "harp",
    "harvest",   "hat",      "hazel",    "helmet",   "heron",    "hill",     "honey",    "horizon",  "horse",
    "hotel",     "iceberg",  "island",   "jacket",   "jaguar",   "jar",      "jelly",    "jewel",    "journal",
    "jungle",    "kettle",   "keyboard", "kitchen",  "kite",     "kitten",   "ladder",   "lagoon",   "lake",
    "lamp",      "lantern",  "laurel",   "lawn",     "leaf",     "lemon",    "letter",   "library",  "lighthouse",
    "lily",      "lion",     "lizard",   "lobster",  "locket",   "lumber",   "magnet",   "mango",    "mansion",
    "maple",     "marble",   "market",   "meadow",   "medal",    "melon",    "mirror",   "monkey",   "monument",
    "moon",      "morning",  "mosaic",   "mountain", "museum",   "mushroom", "napkin",   "necklace", "needle",
    "nest",      "nickel",   "notebook", "oak",      "oasis",    "ocean",    "office",   "olive",    "onion",
    "orchard",   "orchid",   "otter",    "oven",     "oyster",   "paddle",   "painter",  "palace",   "panther",
    "paper",     "parade",   "parrot",   "passage",  "pasture",  "peach",    "peacock",  "pebble",   "pelican",
    "pencil",    "pepper",   "piano",    "picnic",   "pigeon",   "pillow",   "pilot",    "pine",     "pirate",
    "planet",    "plaza",    "plum",     "pocket",   "pond",     "poppy",    "porch",    "potato",   "prairie",
    "puddle",    "pumpkin",  "puzzle",   "pyramid",  "quarry",   "quilt",    "rabbit",   "raccoon",  "radio",
    "raft",      "rainbow",  "raven",    "ribbon",   "river",    "robin",    "rocket",   "roof",     "rooster",
    "rope",      "rose",     "ruby",     "saddle",   "sailor",   "salmon",   "sandal",   "scarf",    "school",
    "scissors",  "seagull",  "shadow",   "shell",    "shepherd", "shovel",   "silk",     "sketch",   "slipper",
    "snail",     "sock",     "sparrow",  "spider",   "spoon",    "stable",   "stadium",  "statue",   "stone",
    "storm",     "stream",   "street",   "summit",   "sunset",   "swan",     "table",    "tailor",   "temple",
    "theater",   "thimble",  "thistle",  "thunder",  "ticket",   "tiger",    "timber",   "toast",    "tower",
    "tractor",   "trail",    "train",    "trumpet",  "tulip",    "tunnel",   "turtle",   "umbrella", "valley",
    "vase",      "village",  "vineyard", "violin",   "volcano",  "wagon",    "walnut",   "walrus",   "water",
    "waterfall", "whale",    "wheat",    "whistle",  "willow",   "window",   "winter",   "wizard",   "wolf",
    "yard",      "zebra"};

}  // namespace

std::string random_word_pair(Random& random) {
    const std::string adjective = adjectives[size_t(random.below(adjectives.size()))];
    return adjective + "-" + nouns[size_t(random.below(nouns.size()))];
}

}  // namespace fastkv::eval
