"""What is whole, and what is made from what is planned."""

from PIL import Image

from gigraph.records.tables import write
from gigraph.running import current
from gigraph.running.record import write_receipt


def test_whole(tmp_path):
    """A file without its end is not whole, nor is a folder that holds one."""
    import torch
    from safetensors.torch import save_file

    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "a.webp")
    save_file({"x": torch.ones(9)}, tmp_path / "a.safetensors")
    (tmp_path / "a.svg").write_text("<svg>" + "x" * 100 + "</svg>\n")
    (tmp_path / "a.html").write_text("<html>" + "x" * 100 + "</html>\n")
    (tmp_path / ".hidden").touch()
    assert current.whole(tmp_path)
    for path in sorted(tmp_path.glob("a.*")):
        content = path.read_bytes()
        for size in (0, 4, len(content) - 15):
            path.write_bytes(content[:size])
            assert not current.whole(path) and not current.whole(tmp_path), (path, size)
        path.write_bytes(content)
    assert current.whole(tmp_path) and not current.whole(tmp_path / "none.svg")
    # A drawn folder has a picture for each of its scenes.
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee/1.png").write_bytes((tmp_path / "a.png").read_bytes())
    for scenes, expected in ((["bee/1.png"], True), (["bee/1.png", "bee/2.png"], False)):
        write(tmp_path / "factors.parquet", "rejected", {"path": scenes, "reason": scenes})
        assert current.whole(tmp_path) is expected


def test_current(tmp_path):
    table, figure, receipt = tmp_path / "t.parquet", tmp_path / "f.svg", tmp_path / "log.json"
    planned = {str(table): "new", str(figure): "new"}
    assert not current.current(planned, receipt)
    write(table, "rejected", {"path": [], "reason": []}, "new")
    figure.write_text("</svg>")
    assert not current.current(planned, receipt)  # nobody says what the figure was made from
    write_receipt(receipt, lineage="new")
    assert current.current(planned, receipt)
    write_receipt(receipt, lineage="old")
    assert not current.current(planned, receipt)
    write_receipt(receipt, lineage="new")
    write(table, "rejected", {"path": [], "reason": []}, "old")
    assert not current.current(planned, receipt)
