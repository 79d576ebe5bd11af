"""Makes the small CLIP-style tokenizer and its expected ids.

The vocabulary has the layout of the published one: 256 byte characters, the
same 256 with the end-of-word mark, one entry per merge, and the two special
tokens at the end. The merges are learned here from a few sentences.
"""

import collections
import json
import os

MAX_LENGTH = 20
N_MERGES = 260
START, END = "<|startoftext|>", "<|endoftext|>"

CORPUS = """
a cat is sitting on a wooden chair and looking at the camera
a dog is running in the green grass near the river
two people are talking in the street at night
a woman is playing the piano in front of a large window
a man with a guitar is singing on the stage
hot air balloons are flying over the mountains in the morning
a plane is landing on the runway of the airport
a white ship is sailing on the blue sea
people are dancing and skiing, running and boxing
jellyfish and turtles are swimming under the water
a slice of pizza with cheese and a glass of orange juice
it's the driver's car; they're sure we've seen it, i'm not, you'll see, she'd go
don't stop ... really?! no!! wait -- what
frames 1 2 3 10 24 100 1000 2024
café crème brûlée naïve façade résumé élan
straße über schön größe
фильм о море и небе
の猫は日本の海を見る 日本 日本
😀😀 😀 fun 😀
"""

TEXTS = [
    "",
    " ",
    "a",
    "a cat",
    "A CAT Sitting On A Chair",
    "  leading, trailing\tand\n\n inner   white  space  ",
    "non\u00a0breaking\u3000and\u2003wide spaces",
    "zero\u200bwidth\u200dand\ufeffmarks",
    "it's they're we've i'm you'll she'd IT'S o'clock 's",
    "don't won't rock'n'roll ''quotes'' 'twas",
    "curly \u2019s and \u201cquotes\u201d",
    "...?! --- ***",
    "wait...what?!",
    "hello,world!(really)",
    "under_score snake_case __init__",
    "c++ c# f(x)=x^2",
    "user@example.org https://example.org/a?b=c&d=%20",
    "1 12 123 3.14159 1,000,000",
    "24fps 1080p mp4 h264",
    "\u00bd cup x\u00b2 \u2167 \u0663\u0664 \u2460",
    "caf\u00e9 cr\u00e8me br\u00fbl\u00e9e",
    "cafe\u0301 composed by NFC",
    "\u00c9LAN \u00dcBER STRASSE stra\u00dfe",
    "\u039f\u0394\u039f\u03a3 \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2",
    "\u0130stanbul I\u0131i",
    "Z\u0337a\u0337l\u0337g\u0337o\u0337",
    "\u65e5\u672c\u306e\u732b\u306f\u6d77\u3092\u898b\u308b",
    "cat\u732bdog\u72ac",
    "\ud55c\uad6d\uc5b4 \u4e2d\u6587\u3002\u5168\u89d2\uff21\uff22\uff11",
    "\u0424\u0438\u043b\u044c\u043c \u043e \u041c\u041e\u0420\u0415",
    "\u0639\u0631\u0628\u064a \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\U0001f600",
    "fun \U0001f600\U0001f600!\U0001f680",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 \u2764\ufe0f \U0001f44d\U0001f3fd",
    "\U00020000\U0001d49c\U0001d7d8 rare planes",
    "\ufb01n ligature \u00aa\u00ba \u2126 ohm \u212b",
    "control\u0001\u001fchars\u007f and \u0085 next line",
    "tab\tseparated\tvalues\r\nand lines",
    "<|endoftext",
    "a <b>tag</b> </w> w/ slash",
    "Pneumonoultramicroscopicsilicovolcanoconiosis",
    "a woman is playing the piano in front of a large window " * 12,
    "\U0001f680" * 60,
    "!" * 100,
    "exactly twenty a b c d e f g h i j k l m",
]

# Special tokens written out in the text become their ids.
SPECIAL_TEXTS = [
    "a cat<|endoftext|>a dog",
    "<|startoftext|> a cat <|endoftext|>",
]


def byte_characters():
    """The printable stand-in for every byte, in vocabulary order."""
    direct = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in direct}
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + len(table) - len(direct))
    return table


def learn_merges(table, count):
    """Plain byte-pair merges of the most frequent pair; ties go to the smaller pair."""
    import regex

    split = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    words = collections.Counter()
    for word in split.findall(CORPUS.lower()):
        symbols = [table[b] for b in word.encode("utf-8")]
        symbols[-1] += "</w>"
        words[tuple(symbols)] += 1
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for symbols, n in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        merged = collections.Counter()
        for symbols, n in words.items():
            out, i = [], 0
            while i < len(symbols):
                if symbols[i : i + 2] == best:
                    out.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    out.append(symbols[i])
                    i += 1
            merged[tuple(out)] += n
        words = merged
    return merges


def make(folder):
    from transformers import CLIPTokenizer

    import transformers

    os.makedirs(folder, exist_ok=True)
    table = byte_characters()
    characters = list(table.values())
    merges = learn_merges(table, N_MERGES)
    entries = characters + [c + "</w>" for c in characters]
    for a, b in merges:
        if a + b not in entries:
            entries.append(a + b)
    entries += [START, END]
    assert len(set(entries)) == len(entries)

    def write(name, text):
        with open(os.path.join(folder, name), "w", encoding="utf-8", newline="\n") as f:
            f.write(text)

    vocab = {token: i for i, token in enumerate(entries)}
    write("vocab.json", json.dumps(vocab, ensure_ascii=True, separators=(",", ":")) + "\n")
    write("merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    write(
        "tokenizer_config.json",
        json.dumps(
            {
                "bos_token": START,
                "do_lower_case": True,
                "eos_token": END,
                "model_max_length": MAX_LENGTH,
                "pad_token": END,
                "tokenizer_class": "CLIPTokenizer",
                "unk_token": END,
            },
            indent=2,
        )
        + "\n",
    )

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    assert len(tokenizer) == len(entries), (len(tokenizer), len(entries))

    def case(text):
        padded = tokenizer(text, padding="max_length", max_length=MAX_LENGTH, truncation=True)["input_ids"]
        # Without truncation the warning about the length does not matter here.
        full = tokenizer(text, truncation=False, verbose=False)["input_ids"]
        return {"text": text, "ids": padded, "untruncated": full}

    cases = {
        "max_length": MAX_LENGTH,
        "vocab_size": len(entries),
        "bos_token_id": vocab[START],
        "eos_token_id": vocab[END],
        "pad_token_id": vocab[END],
        "source": f"transformers {transformers.__version__} CLIPTokenizer",
        "cases": [case(t) for t in TEXTS],
        "special_cases": [case(t) for t in SPECIAL_TEXTS],
    }
    rows = []
    for key, value in cases.items():
        if isinstance(value, list):
            inner = ",\n".join("    " + json.dumps(c, ensure_ascii=True) for c in value)
            rows.append(f"  {json.dumps(key)}: [\n{inner}\n  ]")
        else:
            rows.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    write("cases.json", "{\n" + ",\n".join(rows) + "\n}\n")
    print(f"tokenizer: {len(entries)} entries, {len(merges)} merges, {len(TEXTS)}+{len(SPECIAL_TEXTS)} cases")
