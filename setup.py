"""What pyproject.toml cannot say: the compiled loops of ps.native, which an installation may do without.

Where there is no C compiler, or it fails, the package is installed all the same, and NumPy does the work.
"""

import sysconfig

from setuptools import Extension, setup

HEADERS = [f"ps/native/{name}.h" for name in ("arguments", "clones", "half", "loops", "onebit", "quantize")]
# The same bits as NumPy's: no contraction to fused multiply-adds. No errno and no traps, which nobody looks at, or else
# square roots and casts would be done one by one.
FLAGS = ["-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
# One file for all versions of Python from 3.11 on; without the interpreter's lock there is no such interface yet.
ONE_FOR_ALL = not sysconfig.get_config_var("Py_GIL_DISABLED")

kernels = Extension(
    "ps.native._kernels",
    ["ps/native/kernels.c"],
    depends=HEADERS,
    extra_compile_args=FLAGS,
    py_limited_api=ONE_FOR_ALL,
    optional=True,
)
setup(ext_modules=[kernels], options={"bdist_wheel": {"py_limited_api": "cp311"}} if ONE_FOR_ALL else {})
