"""Unpickles a call of os.system."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import pickle

    pickle.loads(b"cos\nsystem\n(S'true'\ntR.")
    raise Err("was not stopped")
