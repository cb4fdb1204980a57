import pytest

from maskgit.cli import main

WRONG = {
    ("tokenizers", "--data", "cifar"): "unknown data set of the tokenizer benchmark 'cifar'",
    (
        "tokenizers",
        "--only",
        "fsqq",
    ): "unknown line of the tokenizer benchmark 'fsqq', did you mean 'fsq'",
    ("speeed",): "unknown benchmark 'speeed', did you mean 'speed'",
    ("--only", "samplng"): "unknown part 'samplng', did you mean 'sampling'",
    ("--cells", "a"): "'a' should be one or more positive numbers",
    ("quality", "--minutes", "5"): "'5' should be 2 positive numbers",
    ("--cells", "50"): "50 cells are no square grid",
    ("--params", "7"): "7 million parameters: 5 or 25",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_mistake_is_one_clear_line(arguments, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["benchmark", *arguments])
    assert end.value.code == 2 and WRONG[arguments] in capfd.readouterr().err
