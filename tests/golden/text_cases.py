"""Makes the small OPT-style and BERT-style tokenizers and their expected ids and texts.

The vocabularies are learned here from the sentences of tokenizer_cases.py; their special tokens are the published
ones, in the published places.
"""

import collections
import json
import os
import random

from tokenizer_cases import CORPUS, TEXTS, byte_characters

MAX_LENGTH = 20


def odd_strings(count, seed):
    """Mixtures of scripts, marks, white space and specials, the same every time."""
    draw = random.Random(seed)
    pieces = [
        "the ", "cat", " sat", "don't", "WE'LL", " 12", "3.14", "…", "—", "  ", "\n", "\n\n", "\t", " \n ", "\u00a0", "\u3000",
        "café", "cafe\u0301", "ÜBER", "ß", "İ", "ﬁ", "日本", "猫", "の", "한국어", "фильм", "עברית", "ไทย", "हिन्दी", "\u200d", "\ufeff",
        "😀", "👨‍👩‍👧", "👍🏽", "\U00020000", "\u0000", "\u0007", "\u007f", "\ufffd", "'s", "'S", "’s", "\"", "#", "##", "@x", "_", "/",
        "</s", "<s>", "[CLS", "[UNK]", "$5", "x²", "½", "１２", "a" * 30, "!?", "-", "«", "¿", "İı", "\u0337", "e\u0301\u0327", "\r\n",
    ]
    return ["".join(draw.choice(pieces) for _ in range(draw.randint(1, 9))) for _ in range(count)]


def merge(words, count, join):
    """Plain pair merges of the most frequent pair; ties go to the smaller pair."""
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
                    out.append(join(*best))
                    i += 2
                else:
                    out.append(symbols[i])
                    i += 1
            merged[tuple(out)] += n
        words = merged
    return merges


def writer(folder):
    os.makedirs(folder, exist_ok=True)

    def write(name, text):
        with open(os.path.join(folder, name), "w", encoding="utf-8", newline="\n") as f:
            f.write(text)

    return write


def dump(cases):
    rows = []
    for key, value in cases.items():
        if isinstance(value, list):
            inner = ",\n".join("    " + json.dumps(c, ensure_ascii=True) for c in value)
            rows.append(f"  {json.dumps(key)}: [\n{inner}\n  ]")
        else:
            rows.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def opt(folder):
    import regex
    import transformers
    from transformers import GPT2Tokenizer

    write = writer(folder)
    table = byte_characters()
    split = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    words = collections.Counter(tuple(table[b] for b in w.encode("utf-8")) for w in split.findall(CORPUS))
    merges = merge(words, 260, lambda a, b: a + b)
    entries = ["<s>", "<pad>", "</s>", "<unk>", *table.values()]
    entries += [a + b for a, b in merges if a + b not in entries]
    vocab = {token: i for i, token in enumerate(entries)}
    image = len(entries)

    def token(text, **more):
        return {"content": text, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                "special": True, **more}

    write("vocab.json", json.dumps(vocab, ensure_ascii=True, separators=(",", ":")) + "\n")
    write("merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    config = {
        "add_bos_token": True,
        "add_prefix_space": False,
        "added_tokens_decoder": {"1": token("<pad>"), "2": token("</s>"), str(image): token("<image>")},
        "bos_token": "</s>",
        "eos_token": "</s>",
        "errors": "replace",
        "model_max_length": 1000000000,
        "pad_token": "<pad>",
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": "</s>",
    }
    write("tokenizer_config.json", json.dumps(config, indent=2) + "\n")
    tokenizer = GPT2Tokenizer.from_pretrained(folder, add_bos_token=True)
    assert len(tokenizer) == image + 1
    assert tokenizer("a")["input_ids"][0] == 2, tokenizer("a")

    def case(text):
        ids = tokenizer(text)["input_ids"]
        return {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)}

    draw = random.Random(5)
    # Ids in no order that text would give: bytes that are no UTF-8, specials between them.
    scrambled = [[draw.randrange(len(entries) + 1) for _ in range(12)] for _ in range(40)]
    special = ["a cat</s>a dog", "<image><image> a cat", "</s>", "<pad> <pad>", "<s>a<unk>", "\n"]
    write("cases.json", dump({
        "vocab_size": image + 1,
        "image_token_id": image,
        "source": f"transformers {transformers.__version__} GPT2Tokenizer",
        "cases": [case(t) for t in TEXTS + special + odd_strings(120, 1)],
        "decoded": [{"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True)} for ids in scrambled],
    }))
    print(f"tokenizer_opt: {image + 1} entries")


def bert(folder):
    import transformers
    from tokenizers import normalizers, pre_tokenizers
    from transformers import BertTokenizer

    write = writer(folder)
    normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, lowercase=True)
    words = collections.Counter()
    for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normalizer.normalize_str(CORPUS)):
        words[tuple([word[0]] + ["##" + c for c in word[1:]])] += 1
    alphabet = sorted({c for word in words for c in word})
    merges = merge(words, 300, lambda a, b: a + b.removeprefix("##"))
    entries = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *alphabet]
    for a, b in merges:
        joined = a + b.removeprefix("##")
        if joined not in entries:
            entries.append(joined)
    entries += ["\u200d", "a" * 30]
    write("vocab.txt", "".join(f"{token}\n" for token in entries))
    config = {
        "cls_token": "[CLS]",
        "do_lower_case": True,
        "mask_token": "[MASK]",
        "model_max_length": MAX_LENGTH,
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
        "unk_token": "[UNK]",
    }
    write("tokenizer_config.json", json.dumps(config, indent=2) + "\n")
    tokenizer = BertTokenizer.from_pretrained(folder)
    cased = BertTokenizer.from_pretrained(folder, do_lower_case=False, tokenize_chinese_chars=False)

    def case(text):
        return {
            "text": text,
            "ids": tokenizer(text, truncation=True, max_length=MAX_LENGTH)["input_ids"],
            "untruncated": tokenizer(text, verbose=False)["input_ids"],
            "cased": cased(text, verbose=False)["input_ids"],
        }

    special = ["a [SEP] cat [MASK]", "[CLS]", "[PAD]dog", "x" * 100, "a" * 101, "[unused0]", "[ SEP ]"]
    write("cases.json", dump({
        "max_length": MAX_LENGTH,
        "vocab_size": len(entries),
        "source": f"transformers {transformers.__version__} BertTokenizer",
        "cases": [case(t) for t in TEXTS + special + odd_strings(120, 2)],
    }))
    print(f"tokenizer_bert: {len(entries)} entries")
