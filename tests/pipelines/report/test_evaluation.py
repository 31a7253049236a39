from PIL import Image

from pipelines.artifacts.run_folder import RunFolder
from pipelines.report.build import write_report
from pipelines.report.evaluation import read_evaluations
from stage1_vqvae.files import write_json


def test_evaluations_are_read_by_name_and_section(tmp_path):
    folder = RunFolder(tmp_path)
    assert read_evaluations(folder) == []
    found = {"samples": {"class_agreement": 0.98}, "codes": {"usage_0": 1.0}, "reading": "Read.", "remarks": ["No."]}
    for name in ("n10_seed1", "n10_seed0"):
        write_json(folder.evaluations / name / "evaluation.json", found)
    first, second = read_evaluations(folder)
    assert (first.name, second.name) == ("n10_seed0", "n10_seed1")
    assert (first.reading, first.remarks) == ("Read.", ["No."])
    (codes, usage), (samples, agreement) = first.panels
    assert (codes, samples) == ("Codes", "Samples")
    assert [(row.name, row.value, bool(row.meaning)) for row in usage] == [("usage_0", 1.0, True)]
    assert [(row.name, row.shown) for row in agreement] == [("class_agreement", "0.98")]
    assert first.copies is None


def test_the_page_shows_every_evaluation_and_each_remark_once(tmp_path):
    folder = RunFolder(tmp_path)
    for name, psnr in (("n10_seed0", 21.25), ("n10_seed1", 23.5)):
        found = {
            "reconstruction": {"frechet_distance": psnr},
            "reading": "The codes <carry> it.",
            "remarks": ["No bits."],
        }
        write_json(folder.evaluations / name / "evaluation.json", found)
    Image.new("L", (4, 4)).save(folder.evaluations / "n10_seed1" / "copies.png")
    write_report(folder)
    shown = folder.report.read_text()
    assert shown.count("<img") == shown.count("below each the training image") == 1
    assert all(words in shown for words in ("Evaluation", "n10_seed0", "21.25", "n10_seed1", "23.5"))
    assert shown.count("The codes &lt;carry&gt; it.") == 2
    assert shown.count("No bits.") == 1
    assert "frechet_<wbr>distance<small>" in shown  # a narrow screen may break the name
