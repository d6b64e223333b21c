# SPDX-License-Identifier: Apache-2.0
"""Each failure ends with one message that says what, where and what to do; nothing half-written."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import HERE, SCALE


def fails(result, tool, *texts, status=1):
    assert result.returncode == status, result.stderr
    for text in texts:
        assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tool.folder / "out.pegapack").exists()
    assert tool.leftovers() == []


DECLARATIONS = {
    "no PACK": (dict(after="del PACK"), "declaration.py does not set PACK"),
    "not a Pack": (dict(after="PACK = 3"), "PACK is a int, expected a pegapack.Pack"),
    "code that raises": (dict(before="1 / 0"), "declaration.py:4: ZeroDivisionError"),
    "no Python": (dict(before="def"), "declaration.py:4: SyntaxError"),
    "unknown target": (
        dict(kernel='dict(targets=["sm_75"])'),
        "unknown target 'sm_75'; expected one of: sm_80",
    ),
    "unknown option": (
        dict(kernel='dict(options_for={"sm_90": dict(warps=4)})'),
        "unknown ['warps']",
    ),
    "unknown name in the grid": (
        dict(kernel='dict(grid=["m", "1", "1"])'),
        "expression 'm': no parameter 'm'",
    ),
    "grid that is no expression": (dict(kernel='dict(grid=["n ** 2", "1", "1"])'), "has 'n ** 2'"),
    "grid that cannot be read": (
        dict(kernel='dict(grid=["n +", "1", "1"])'),
        "expression 'n +' cannot be read",
    ),
    "float in an expression": (
        dict(kernel='dict(grid=["factor", "1", "1"])'),
        "'factor' is a float",
    ),
    "grid of two": (dict(kernel='dict(grid=["n", "1"])'), "a grid has 3 sizes, got 2"),
    "unknown Triton type": (
        dict(kernel='dict(arguments=dict(x=Arg("*fp33")))'),
        "unknown Triton type '*fp33'",
    ),
    "shape of no tensor": (
        dict(kernel='dict(when=["shape(x, 0) == 1"])'),
        "takes a Tensor parameter, got 'x'",
    ),
    "descriptor of a pointer": (
        dict(kernel='dict(arguments=dict(x=Descriptor("fp32", [8, 8])))'),
        "made from a Tensor parameter; 'x' is none",
    ),
    "specialised float": (
        dict(kernel='dict(arguments=dict(factor=Arg("fp32", equal_to_1=True)))'),
        "Triton specialises integers and pointers",
    ),
    "constexpr that is a list": (
        dict(kernel="dict(constexprs=dict(BLOCK=[1]))"),
        "constexpr 'BLOCK' is a list",
    ),
    "min without max": (
        dict(function='dict(params=[integer("n", "", min=0)])'),
        "min and max go together",
    ),
    "range of a float": (
        dict(function='dict(params=[floating("n", "", min=0, max=1)])'),
        "has no 'min'",
    ),
    "two streams": (
        dict(function='dict(params=[stream("a"), stream("b")])'),
        "more than one stream",
    ),
    "a shape that computes": (
        dict(function='dict(params=[tensor("x", "", dtype="float32", shape="2 * n")])'),
        "shape '2 * n'",
    ),
    "a shape of what is no number": (
        dict(function='dict(params=[pointer("x", "", dtype="float32", shape="m")])'),
        "names 'm', which is no int",
    ),
    "golden of another size than declared": (
        dict(
            function='dict(params=[pointer("x", "", dtype="float32", shape="n"),'
            ' pointer("y", "", output=True),'
            ' integer("n", ""), floating("factor", "")])',
            golden='dict(args={**GOLDEN["args"], "n": 4})',
        ),
        "has shape [5], expected 4 for 'n' in 'n'",
    ),
    "the same name twice": (
        dict(function='dict(params=[integer("n", ""), integer("n", "")])'),
        "'n' is there twice",
    ),
    "golden without an argument": (
        dict(golden="dict(args=dict(n=5))"),
        "has arguments ['n'], expected",
    ),
    "golden with memory for a number": (
        dict(golden='dict(args={**GOLDEN["args"], "n": Memory("int32", [1])})'),
        "'n' is a int, got Memory",
    ),
    "golden that raises": (
        dict(golden="dict(reference=lambda args: args['z'])"),
        "the reference failed: KeyError",
    ),
    "golden of another shape": (
        dict(golden="dict(reference=lambda args: dict(y=args['x'][:2]))"),
        "returned shape [2], expected [5]",
    ),
    "golden in float32": (
        dict(golden="dict(reference=lambda args: dict(y=args['x'].astype('float32')))"),
        "returned float32, expected float64",
    ),
    "golden of other outputs": (
        dict(golden="dict(reference=lambda args: dict(z=args['x']))"),
        "the reference returned ['z'], expected ['y']",
    ),
    "seed that JSON does not keep": (
        dict(
            golden='dict(args={**GOLDEN["args"], '
            '"x": Memory("float32", [5], fill=Uniform(seed=2**53, low=0, high=1))})'
        ),
        "seed is 9007199254740992: expected an integer within +-(2^53 - 1)",
    ),
    "golden that compares nothing": (
        dict(golden='dict(args={**GOLDEN["args"], "y": Memory("float32", [5])})'),
        "nothing is compared",
    ),
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_declaration(tool, name):
    change, text = DECLARATIONS[name]
    fails(
        tool.run(tool.declare(**change), "-o", tool.folder / "out.pegapack", "-j", 1),
        tool,
        "build-pack: ",
        text,
    )


KERNELS = {
    "no such source": (dict(kernel='dict(source="nowhere.py")'), "nowhere.py is not there"),
    "no such function": (
        dict(kernel='dict(function="scael")'),
        "no 'scael' in the source; it has these @triton.jit functions: scale",
    ),
    "not a kernel": (dict(kernel='dict(function="tl")'), "expected a @triton.jit function"),
    "missing argument": (
        dict(kernel='dict(arguments=dict(x=Arg("*fp32"), y=Arg("*fp32"), n=Arg("i32")))'),
        "does not match scale(x, y, n, factor, BLOCK): missing ['factor']",
    ),
    "constexpr as an argument": (
        dict(
            kernel='dict(constexprs={}, arguments={**KERNEL["arguments"],'
            ' "BLOCK": Arg("i32", "128")})'
        ),
        "parameter 'BLOCK' is tl.constexpr in the source",
    ),
    "a source that raises": (dict(source="1 / 0"), "ZeroDivisionError"),
    "a source that ends the process": (
        dict(source="import os; os.kill(os.getpid(), 9)"),
        "the compiler's process ended (signal 9)",
    ),
    "a kernel that Triton refuses": (
        dict(source=SCALE.replace("* factor", "* undefined_name")),
        "undefined_name",
    ),
    "a block that is no power of two": (
        dict(kernel="dict(constexprs=dict(BLOCK=100))"),
        "power of 2",
    ),
    "a path in the code": (
        dict(
            source=SCALE.replace("    tl.store", "    tl.device_print(WHERE, n)\n    tl.store")
            + "\n\nWHERE = tl.constexpr(__file__)\n"
        ),
        "the cubin holds the folder of its source",
    ),
    "an option that Triton refuses": (
        dict(kernel="dict(options=Options(num_warps=3, enable_fp_fusion=True))"),
        "num_warps must be a power of 2",
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernel(tool, name):
    change, text = KERNELS[name]
    result = tool.run(tool.declare(**change), "-o", tool.folder / "out.pegapack", "-j", 1)
    fails(result, tool, "function 'scale' for sm_90", text)


def test_layout_that_is_not_the_cubins(abi):
    """The check of the cubin's table against the declared types, both ways."""
    from pegapack.cubin import CubinKernel, CubinParam
    from pegapack.declare import Arg, Kernel, Options
    from pegapack.errors import BuildError
    from pegapack.layout import kernel_params
    from pegapack.worker import Compiled

    kernel = Kernel(
        "k.py",
        "k",
        {"a": Arg("i8"), "p": Arg("*fp32")},
        ["1", "1", "1"],
        Options(num_warps=4, enable_fp_fusion=True),
    )
    compiled = Compiled("k", ["a", "p"], b"", "sm_80", {"tensordesc_meta": []}, "3.9.0", "ptxas")

    def cubin(*places):
        return CubinKernel("k", 80, tuple(CubinParam(*p) for p in places), 0x160, 8, 0, 0, None)

    assert (
        len(kernel_params(kernel, compiled, cubin((0, 1), (8, 8), (16, 8), (24, 8)), "here")) == 4
    )
    with pytest.raises(
        BuildError, match="here: parameter 1 'p' .* at offset 8 with 8 bytes, .* at 4 with 8"
    ):
        kernel_params(kernel, compiled, cubin((0, 1), (4, 8), (16, 8), (24, 8)), "here")
    with pytest.raises(
        BuildError, match="parameter 0 'a' .* with 1 bytes, the cubin has it at 0 with 4"
    ):
        kernel_params(kernel, compiled, cubin((0, 4), (8, 8), (16, 8), (24, 8)), "here")
    with pytest.raises(BuildError, match="expected 4 parameters .* the cubin has 3"):
        kernel_params(kernel, compiled, cubin((0, 1), (8, 8), (16, 8)), "here")


@pytest.mark.parametrize("cubin", [b"", b"\x7fELF", b"\x7fELF\x02\x01\x01" + bytes(57), bytes(100)])
def test_cubin_that_cannot_be_read(cubin):
    from pegapack.cubin import read_kernel
    from pegapack.errors import BuildError

    with pytest.raises(BuildError, match="^here: "):
        read_kernel(cubin, "k", "here")


def test_without_triton(tool):
    result = tool.run(
        tool.declare(), "-o", tool.folder / "out.pegapack", python=[sys.executable, "-S"]
    )
    fails(result, tool, "has no triton, numpy, pyelftools", "./dev kernels")


@pytest.mark.parametrize(
    "args, text",
    [
        ([], "nothing to write: give -o FILE, --folder DIR or both"),
        (["-o", "out.pegapack", "-j", "0"], "-j 0: expected 1 or more"),
        (["--folder", "p", "--depfile", "d"], "--depfile needs -o"),
    ],
)
def test_usage(tool, args, text):
    fails(tool.run(tool.declare(), *args), tool, text, status=2)


@pytest.mark.parametrize(
    "targets, text",
    [
        ("sm_75", "unknown target 'sm_75'"),
        ("", "--targets is empty"),
        ("sm_80", "has no kernel for sm_80"),
    ],
)
def test_targets(tool, targets, text):
    fails(
        tool.run(tool.declare(), "-o", tool.folder / "out.pegapack", "--targets", targets),
        tool,
        text,
    )


def test_no_declaration(tool):
    absent, text, folder = (tool.folder / name for name in ("nowhere.py", "text", "folder.py"))
    text.write_text("PACK = None")
    folder.mkdir()
    for path, said in (
        (absent, "is not there: expected a Python file"),
        (absent.with_suffix(""), "is not there"),
        (text, "is no Python file: expected one, NAME.py"),
        (folder, "is no Python file"),
    ):
        fails(tool.run(path, "-o", tool.folder / "out.pegapack"), tool, f"build-pack: {path} {said}")


def test_unwritable_output(tool):
    (tool.folder / "file").write_text("in the way")
    for option, path in (
        ("-o", tool.folder / "file" / "p.pegapack"),
        ("--folder", tool.folder / "file" / "p"),
        ("-o", "/proc/p.pegapack"),
    ):
        fails(tool.run(tool.declare(), option, path, "-j", 1), tool, f"cannot write {path}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tool, number):
    out = tool.folder / "out.pegapack"
    out.write_bytes(b"PEGAPACK that was there")
    process = subprocess.Popen(
        [sys.executable, str(tool.script), str(HERE / "abi.py"), "-o", str(out), "-j", "2"],
        cwd=tool.folder,
        env=tool.environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert "compiling" in process.stderr.readline()
    time.sleep(1)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (
        process.returncode == 130
        and "interrupted; nothing was written" in said
        and "Traceback" not in said
    )
    assert out.read_bytes() == b"PEGAPACK that was there"
    assert tool.leftovers() == []
