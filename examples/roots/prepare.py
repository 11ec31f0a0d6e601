"""Prepares what the demo's root is trained on: signs that no task of the demo asks for; downloads nothing.

``python examples/roots/prepare.py demo/roots`` draws Armenian, Georgian and Hebrew letters, Canadian syllables, arrows,
mathematical operators and shapes from matplotlib's fonts, as 28×28 grey images in one npz file. Signs that look like a
Latin, Greek or Cyrillic letter or a digit are left out, and so is DejaVu Serif, which the demo tests on.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from examples import glyphs  # noqa: E402 (the script is run by its path)
from examples.datasets import Dataset, Images, prepare, write_npz  # noqa: E402

ARMENIAN = "ԱԲԳԴԵԶԷԸԹԺԻԽԾԿՀՁՃՄՅՆՇՉՊՌՎՏՐՒՔՖագդեէըթժիլխծկձճմնչպջռվտփքֆև"
GEORGIAN = "აბგდევზთიკლმნოპჟრსტუფქღყშჩცჭჯჰჱჲჴჵႠႡႢႣႤႥႦႧႨႩႪႫႬႭႮႯႰႱႲႴႵႶႷႸႺႼႽႿჀჁჂჃჄჅ"
HEBREW = "אבגדהזיךכלםמנעףץצקרשת"
SYLLABLES = (
    "ᐂᐅᐆᐊᐋᐌᐍᐏᐐᐑᐒᐓᐔᐕᐗᐘᐙᐚᐝᐟᐠᐢᐣᐥᐦᐨᐩᐪᐫᐬᐮᐲᐼᑍᑏᑑᑖᑗᑘᑙᑛᑜᑝᑞᑟᑠᑡᑢᑣᑤᑨᑬᑮᑱᑳᑴᑵᑸᑹᑺᑻᑼᑽᒀ"
    "ᒁᒂᒄᒆᒈᒍᒎᒔᒕᒜᒝᒤᒦᒩᒫᒭᒰᒱᒲᒳᒴᒸᒹᒺᒼᓀᓁᓂᓃᓅᓉᓊᓋᓍᓏᓐᓒᓗᓚᓞᓟᓠᓡᓢᓣᓤᓥᓧᓩᓬᓭᓮᓯᓲᓳᓵᓶᓷᓸᓹᓺᓻᔂᔃ"
    "ᔄᔇᔐᔒᔓᔔᔕᔖᔗᔘᔙᔚᔛᔜᔝᔞᔟᔠᔡᔢᔦᔧᔨᔩᔪᔫᔬᔭᔮᔯᔰᔱᔲᔳᔴᔵᔶᔷᔸᔹᔺᔻᔼᕄᕅᕆᕋᕌᕍᕎᕏᕒᕗᕘᕙᕵᕷᕹᕾᕿᖀᖁᖂᖃ"
    "ᖄᖅᖊᖎᖏᖐᖒᖓᖔᖕᖖᖠᖢᖣᖤᖥᖧᖨᖩᖪᖬᖭᙇᙯᙰᙱᙲᙳᙴ"
)
ARROWS = "←↑→↓↖↗↘↙↜↝↨↫↬↮↯↰↱↲↳↴↵↶↷↸↹↺↻↼↽↾↿⇄⇅⇆⇋⇍⇏⇑⇓⇖⇗⇘⇙⇤⇥⇨⇫⇱⇲⇳⇵⇶⇿"
OPERATORS = (
    "∂∄∅∉∊∋∌∓∔∕∖∗√∛∝∟∠∡∢∥∫∬∭∱∴∵∶∷∸∹∺∻∽∾∿≁≂≃≅≆≉≋≍≎≏≐≑≗≘≙≟≢≣≤≥≦≧≨≩≪≫≮≯≰"
    "≱≷≸≹≺≻≼≽≾≿⊀⊁⊂⊃⊄⊅⊆⊇⊈⊉⊊⊏⊑⊓⊕⊞⊢⊣⊥⊦⊧⊨⊪⊬⊭⊮⊰⊱⊳⊴⊵⊹⊼⊽⊿⋄⋆⋇⋈⋋⋌⋏⋐⋒⋓⋔⋕⋖⋘⋙⋚⋛⋜⋝"
    "⋞⋟⋠⋡⋥⋨⋩⋪⋫⋬⋭⋮⋯⋰⋱⋲⋶⋸⋺⋽"
)
SHAPES = "□▤▬▭▮▯▱▲△▶▷▻▼▽◀◁◅◇◉◊◌◎◐◑◒◓◜◝◞◟◠◡◢◣◤◥◯◸◹◺◿"
SIGNS = ARMENIAN + GEORGIAN + HEBREW + SYLLABLES + ARROWS + OPERATORS + SHAPES

TRAIN_FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", *glyphs.MONO, *glyphs.STIX)
VALIDATION_FACES = ("DejaVuSans-BoldOblique",)


def signs() -> Images:
    """Every sign a class; the validation images come from a face that training does not see."""
    return {
        "train": glyphs.draw_classes(SIGNS, TRAIN_FACES, 8, "signs/train", glyphs.Variation()),
        "validation": glyphs.draw_classes(SIGNS, VALIDATION_FACES, 3, "signs/validation", glyphs.Variation()),
    }


DATASETS = (Dataset("signs", signs, write_npz),)

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/roots/prepare.py FOLDER")
    prepare(
        DATASETS,
        Path(sys.argv[1]),
        sources=(Path(__file__), Path(glyphs.__file__)),
        expected=HERE / "digests.txt",
    )
