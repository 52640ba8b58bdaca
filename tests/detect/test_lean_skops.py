"""The copy of skops trusts less, and nobody else gets it."""

import sys

import sklearn.utils
from sklearn.linear_model import LinearRegression

from detect import lean_skops as module


def test_the_copy_trusts_no_estimator_and_whoever_imports_skops_gets_all_of_it(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "skops"]:
        monkeypatch.delitem(sys.modules, name)
    list_estimators = sklearn.utils.all_estimators
    module._copy.cache_clear()

    lean = module.lean_skops()
    is_imported = "skops" in sys.modules
    content = lean.dumps(LinearRegression())
    whole = module.whole_skops()

    assert not is_imported
    assert lean is not whole
    assert sklearn.utils.all_estimators is list_estimators
    assert lean.get_untrusted_types(data=content) == ["sklearn.linear_model._base.LinearRegression"]
    assert whole.get_untrusted_types(data=content) == []
