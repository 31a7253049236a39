from pipelines.artifacts.run_folder import RunFolder
from pipelines.report.evaluation import evaluation
from stage1_vqvae.files import write_json


def test_shows_every_evaluation_of_a_run(tmp_path):
    folder = RunFolder(tmp_path)
    assert evaluation(folder) == ""
    for name, psnr in (("n10_seed0", 21.25), ("n10_seed1", 23.5)):
        found = {"reconstruction": {"psnr": psnr}, "reading": "The codes <carry> it.", "remarks": ["No bits."]}
        write_json(folder.evaluations / name / "evaluation.json", found)
    shown = evaluation(folder)
    assert all(words in shown for words in ("Evaluation", "n10_seed0", "21.25", "n10_seed1", "23.5", "No bits."))
    assert "&lt;carry&gt;" in shown
    assert shown.count("No bits.") == 1  # a remark on both


def test_figures_stand_by_what_they_are_of(tmp_path):
    folder = RunFolder(tmp_path)
    found = {"samples": {"class_agreement": 0.98}, "codes": {"usage_0": 1.0}, "reading": "Read.", "remarks": []}
    write_json(folder.evaluations / "n10_seed0" / "evaluation.json", found)
    shown = evaluation(folder)
    assert shown.index("Codes") < shown.index("usage_") < shown.index("Samples") < shown.index("0.98")
    assert "class_<wbr>agreement<small>share that the run&#x27;s own classifier" in shown
    assert "Reconstructions" not in shown
