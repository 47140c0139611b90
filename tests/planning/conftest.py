from pathlib import Path

import pytest

from knowcap.config.study import Study, load_study


@pytest.fixture
def study(study_file: Path, study_text: str, tmp_path: Path) -> Study:
    """The small study, with its results in the test's folder."""
    study_file.write_text(study_text.replace("results: results", f"results: {tmp_path}/results"))
    return load_study(study_file)
