"""Makes odd_strings.json: a thousand odd strings, and a hash of the ids that each tokenizer of transformers gives them.

    pip install transformers==5.23.0
    python tests/golden/odd_strings.py [MINILM [CLIP]]

MINILM is a folder with the published all-MiniLM-L6-v2, CLIP one with the published vocab.json and merges.txt; without them
their hashes are kept as they are. A string is a text, or [unit, count, end]: the unit so many times, then the end.

A hash is FNV-1a (64 bits) over the ids as little-endian u32: OPT's all, CLIP's padded or cut to 77, BERT's cut to 256.
"""

import json
import os
import random
import sys
import unicodedata

import transformers
from transformers import BertTokenizer, CLIPTokenizer, GPT2Tokenizer

FOLDER = os.path.dirname(os.path.abspath(__file__))
COUNT = 1000

WORDS = """the a cat dog people running dancing jellyfish piano guitar don't we'll they're I'M it's O'Clock naïve café
crème Straße größe ÉLAN résumé İstanbul ıIiİ ﬁne ﬂow ﬃ ǅ ŉ ﷺ ΟΔΟΣ Σίσυφος фильм МОРЕ їжак ђак 日本 の猫 海を見る カタカナ ｶﾀｶﾅ 한국어
한국 中文。 全角ＡＢＣ１２３ 𠀀𠮷 ไทย ภาษา हिन्दी क्षत्रिय বাংলা தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල ລາວ မြန်မာ ខ្មែរ ქართული Հայերեն አማርኛ ᏣᎳᎩ
བོད་ᠮᠣᠩᠭᠣᠯ עברית שָׁלוֹם العربية مُحَمَّد فارسی‌ها اردو 12 3.14159 1,000,000 ½ x² Ⅷ ٣٤ ① １２ 1e-6 0x1F $5 €7 50% #tag @user
user@example.org https://example.org/a?b=c&d=%20 C:\\dir\\file __init__ snake_case camelCase f(x)=x^2 c++ <b>tag</b> </w> ## ##ing
[CLS [UNK] [SEP] [CLS] [MASK] [PAD] <s> </s> <pad> <unk> <image> <|startoftext|> <|endoftext|> <|endoftext ]SEP[ Ġthe Ċ ▁the""".split()
MARKS = [
    "😀", "😀😀", "👨‍👩‍👧", "🇫🇷", "❤️", "👍🏽", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🚀", "…", "—", "–", "«", "»", "¿", "¡", "“", "”", "’s", "'S", "'s", "''", "``", "!?", "...", "。", "、",
    "́", "̷", "̧", "é̂̃", "a҈", "Ḍ̇", "ﾞ", "‍", "‌", "\u200b", "\u2060", "\ufeff", "\u00ad", "\u200e",
    "\u200f", "\u202e", "\u2066", "\u2069", "\u0000", "\u0001", "\u0007", "\u0008", "\u000b", "\u000c", "\u001b[31m", "\u001f", "\u007f", "\u0080",
    "\u0085", "\u009f", "\ufffd", "\ufffe", "\uffff", "\ud7ff", "\ue000", "\uf8ff", "\U0001fffe", "\U000e0001", "\U0010ffff", "\\ud83d", "\\u00e9",
    " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", " \n ", "\u00a0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u3000", "\u180e",
]


def strings():
    draw = random.Random(20)
    found = ["", " ", "\n", "\u0000", "a", "A", "é", "e\u0301", "猫", "😀", "</s>", "[CLS]", "<|endoftext|>", "'", "##"]
    found += WORDS + MARKS
    found += [["a", 30_000, ""], ["cat ", 5_000, "dog"], ["😀", 3_000, ""], ["猫", 3_000, ""], [" ", 5_000, "x"],
              ["\u0301", 2_000, "e"], ["x", 100, ""], ["x", 101, ""], ["ab", 50, " y"], ["\n", 500, ""], ["<s>", 300, ""],
              ["1", 400, ""], ["'s", 300, ""], ["!", 999, "?"], ["\u200d", 400, ""], ["ÀÉ ", 700, ""]]
    ranges = [(0x20, 0x7E), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x58F), (0x590, 0x6FF), (0x900, 0xDFF), (0xE00, 0x10FF),
              (0x1100, 0x11FF), (0x1E00, 0x2BFF), (0x2E80, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFFFF),
              (0x10000, 0x10FFF), (0x1D400, 0x1D7FF), (0x1F000, 0x1FAFF), (0x20000, 0x2A6DF)]

    def character():
        low, high = draw.choice(ranges)
        return chr(draw.randint(low, high))

    while len(found) < COUNT:
        kind = draw.random()
        if kind < 0.55:  # words and marks, with and without spaces
            pieces = [draw.choice(WORDS if draw.random() < 0.6 else MARKS) for _ in range(draw.randint(2, 9))]
            text = draw.choice(["", " "]).join(pieces)
        elif kind < 0.85:  # any characters, some with marks on them
            text = "".join(character() + draw.choice(["", "", " ", "\u0301"]) for _ in range(draw.randint(1, 16)))
        else:  # one form or the other of composed letters, upper and lower
            text = " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 5)))
            text = unicodedata.normalize(draw.choice(["NFC", "NFD", "NFKC", "NFKD"]), text)
            text = draw.choice([str.upper, str.lower, str.title, str.swapcase])(text)
        found.append(text)
    return found


def fnv(ids):
    h = 0xCBF29CE484222325
    for i in ids:
        for byte in i.to_bytes(4, "little"):
            h = (h ^ byte) * 0x100000001B3 % 2**64
    return f"{h:016x}"


def main():
    cases = strings()
    assert len(cases) == COUNT
    texts = [c if isinstance(c, str) else c[0] * c[1] + c[2] for c in cases]
    path = os.path.join(FOLDER, "odd_strings.json")
    hashes = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            hashes = json.load(f)["hashes"]

    def run(name, encode):
        hashes[name] = [fnv(encode(text)) for text in texts]

    def small(name):
        return os.path.join(FOLDER, name)

    def clip(tokenizer):
        return lambda text: tokenizer(text, padding="max_length", truncation=True, max_length=77)["input_ids"]

    def bert(tokenizer):
        return lambda text: tokenizer(text, truncation=True, max_length=256)["input_ids"]

    opt = GPT2Tokenizer.from_pretrained(small("tokenizer_opt"), add_bos_token=True)
    run("opt", lambda text: opt(text, verbose=False)["input_ids"])
    run("clip", clip(CLIPTokenizer.from_pretrained(small("tokenizer"))))
    run("bert", bert(BertTokenizer.from_pretrained(small("tokenizer_bert"))))
    if len(sys.argv) > 1:
        run("minilm", bert(transformers.AutoTokenizer.from_pretrained(sys.argv[1])))
    if len(sys.argv) > 2:
        run("clip_published", clip(CLIPTokenizer.from_pretrained(sys.argv[2])))
    rows = ",\n".join(json.dumps(c, ensure_ascii=True) for c in cases)
    lists = ",\n".join(f"{json.dumps(name)}: {json.dumps(values, separators=(',', ':'))}" for name, values in hashes.items())
    source = f"transformers {transformers.__version__}"
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write(f'{{"source": {json.dumps(source)}, "hashes": {{\n{lists}\n}}, "strings": [\n{rows}\n]}}\n')
    print(f"odd_strings.json: {len(cases)} strings, {os.path.getsize(path) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
