from pipelines.report_evaluation import evaluation
from pipelines.run_folder import RunFolder
from stage2_prior.files import write_json


def test_shows_every_evaluation_of_a_run(tmp_path):
    folder = RunFolder(tmp_path)
    assert evaluation(folder) == ""
    for name, psnr in (("n10_seed0", 21.25), ("n10_seed1", 23.5)):
        found = {"reconstruction": {"psnr": psnr}, "reading": "The codes <carry> it.", "remarks": ["No bits."]}
        write_json(folder.evaluations / name / "evaluation.json", found)
    shown = evaluation(folder)
    assert all(words in shown for words in ("Evaluation", "n10_seed0", "21.25", "n10_seed1", "23.5", "No bits."))
    assert "&lt;carry&gt;" in shown
