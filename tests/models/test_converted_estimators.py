"""Estimators of scikit-learn, XGBoost and LightGBM, converted to ONNX, agree with onnxruntime on their own data.

Each case says how an estimator is made and which data it learns and reads; skl2onnx and onnxmltools make the models.
Where a package is not installed its cases are skipped.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

import linnet

skl2onnx = pytest.importorskip("skl2onnx", reason="pip install scikit-learn skl2onnx")
from skl2onnx.common.data_types import (  # noqa: E402
    DictionaryType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn import (  # noqa: E402
    cluster,
    compose,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

Make = Callable[[], Any]
RNG = np.random.default_rng(0)
ROWS, FEATURES = 160, 6
X = RNG.normal(size=(ROWS, FEATURES)).astype(np.float32)
HOLES = np.where(RNG.random(X.shape) < 0.15, np.float32(np.nan), X)
SUM = X[:, 0] + X[:, 1] * X[:, 2] - np.abs(X[:, 3])
TWO = (SUM > -0.5).astype(np.int64)
THREE = np.digitize(SUM, [-1.2, 0.2]).astype(np.int64)
NAMED = np.array(["setosa", "versicolor", "virginica"])[THREE]
REAL = (SUM + 0.1 * RNG.normal(size=ROWS)).astype(np.float32)
PAIR = np.stack([REAL, X[:, 4] - X[:, 5]], axis=1)
SIDE = (X[:, 0] > X[:, 1]).astype(np.int64)  # separable by a line
TARGETS: dict[str, Any] = {"two": TWO, "three": THREE, "named": NAMED, "real": REAL, "pair": PAIR, "none": None}
TARGETS["side"] = SIDE
OPSETS = {"": 18, "ai.onnx.ml": 3}
WORDS = np.array(["red", "green", "blue", "Zürich", ""])[RNG.integers(0, 5, size=(ROWS, 2))]
COUNTS = RNG.integers(0, 6, size=(ROWS, 4)).astype(np.int64)
TEXTS = np.array(
    [" ".join(row) for row in np.array(["one", "two", "Three", "a", "x-y"])[RNG.integers(0, 5, (ROWS, 5))]]
)
DICTS = [{"a": float(a), ("b" if a > 0 else "c"): float(b)} for a, b in X[:, :2]]


@pytest.fixture(autouse=True)
def plain_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """skl2onnx gives some lists of integers as booleans, which new versions of onnx refuse."""
    from skl2onnx.common import _container

    make_node = _container.make_node

    def made(*arguments: Any, **attributes: Any) -> Any:
        plain = {
            k: [int(x) for x in v] if isinstance(v, list) and any(isinstance(x, bool | np.bool_) for x in v) else v
            for k, v in attributes.items()
        }
        return make_node(*arguments, **plain)

    monkeypatch.setattr(_container, "make_node", made)


def session(runtime: Any, model: bytes, threads: int = 1) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def assert_close(got: Any, want: Any, tolerance: float, what: str) -> None:
    """Equal labels and near scores, through lists and dictionaries of them."""
    assert type(got) is type(want), (what, type(got), type(want))
    if isinstance(want, list):
        assert len(got) == len(want), what
        for a, b in zip(got, want, strict=True):
            assert_close(a, b, tolerance, what)
    elif isinstance(want, dict):
        assert list(got) == list(want), what
        assert_close(list(got.values()), list(want.values()), tolerance, what)
    elif isinstance(want, np.ndarray):
        assert (got.dtype, got.shape) == (want.dtype, want.shape), what
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=what)
        else:
            np.testing.assert_array_equal(got, want, err_msg=what)
    else:
        assert got == pytest.approx(want, rel=tolerance, abs=tolerance), what


def compare(model: Any, feeds: dict[str, Any], operator: str | None, tolerance: float) -> None:
    """Both runtimes on all rows, on one row, and Linnet on two threads, with equal bits."""
    operators = {node.op_type for node in model.graph.node}
    assert operator is None or operator in operators, f"{operator} is not among {operators}"
    text = model.SerializeToString()
    peer, own, both = session(onnxruntime, text), session(linnet, text), session(linnet, text, threads=2)
    names = [output.name for output in peer.get_outputs()]
    assert [output.name for output in own.get_outputs()] == names
    one = {k: v if isinstance(v, dict) else v[:1] for k, v in feeds.items()}
    for given in (feeds, one):
        want, got = peer.run(None, given), own.run(None, given)
        for name, a, b, c in zip(names, got, want, both.run(None, given), strict=True):
            assert_close(a, b, tolerance, name)
            assert_close(c, a, 0.0, f"{name}, two threads")


def fitted(make: Make, data: Any, target: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = make()
        return estimator.fit(data) if target is None else estimator.fit(data, target)


def check(
    make: Make,
    target: str = "none",
    data: Any = X,
    operator: str | None = None,
    tolerance: float = 1e-4,
    double: bool = False,
    initial_types: Any = None,
    **options: Any,
) -> None:
    """``options`` are the converter's, for the estimator; ``operator`` must be among the converted model's."""
    estimator = fitted(make, data, None if target == "none" else TARGETS[target][: len(data)])
    read = data.astype(np.float64) if double else data
    if initial_types is None:
        kinds = {"f": DoubleTensorType if double else FloatTensorType, "i": Int64TensorType, "U": StringTensorType}
        initial_types = [("x", kinds[data.dtype.kind]([None, *data.shape[1:]]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = skl2onnx.to_onnx(
            estimator,
            initial_types=initial_types,
            target_opset=OPSETS,
            options={id(estimator): options} if options else None,
        )
    for output in model.graph.output if double else ():
        if output.type.tensor_type.elem_type == TensorProto.DOUBLE:  # skl2onnx's mistake: trees give float
            output.type.tensor_type.elem_type = TensorProto.FLOAT
    feeds = {"x": read.astype(object) if read.dtype.kind == "U" else read}
    compare(model, feeds, operator, tolerance)


def with_seed(cls: Any, **arguments: Any) -> Make:
    return functools.partial(cls, random_state=0, **arguments)


CLASSIFIER, REGRESSOR = "TreeEnsembleClassifier", "TreeEnsembleRegressor"
TREES: dict[str, tuple[Any, ...]] = {
    "decision_tree_two": (with_seed(tree.DecisionTreeClassifier), "two", X, CLASSIFIER),
    "decision_tree_named": (with_seed(tree.DecisionTreeClassifier, max_depth=5), "named", X, CLASSIFIER),
    "decision_tree_regressor": (with_seed(tree.DecisionTreeRegressor), "real", X, REGRESSOR),
    "decision_tree_pair": (with_seed(tree.DecisionTreeRegressor, max_depth=4), "pair", X, REGRESSOR),
    "decision_tree_missing": (with_seed(tree.DecisionTreeClassifier), "three", HOLES, CLASSIFIER),
    "random_forest_two": (with_seed(ensemble.RandomForestClassifier, n_estimators=30), "two", X, CLASSIFIER),
    "random_forest_named": (with_seed(ensemble.RandomForestClassifier, n_estimators=20), "named", X, CLASSIFIER),
    "random_forest_regressor": (with_seed(ensemble.RandomForestRegressor, n_estimators=30), "real", X, REGRESSOR),
    "random_forest_pair": (with_seed(ensemble.RandomForestRegressor, n_estimators=10), "pair", X, REGRESSOR),
    "extra_trees": (with_seed(ensemble.ExtraTreesClassifier, n_estimators=20), "three", X, CLASSIFIER),
    "extra_trees_regressor": (with_seed(ensemble.ExtraTreesRegressor, n_estimators=20), "real", X, REGRESSOR),
    "gradient_boosting_two": (with_seed(ensemble.GradientBoostingClassifier, n_estimators=20), "two", X, CLASSIFIER),
    "gradient_boosting_named": (with_seed(ensemble.GradientBoostingClassifier, n_estimators=9), "named", X),
    "gradient_boosting_regressor": (with_seed(ensemble.GradientBoostingRegressor, n_estimators=20), "real", X),
    "hist_gradient_boosting": (with_seed(ensemble.HistGradientBoostingClassifier, max_iter=8), "two", HOLES),
    "hist_gradient_boosting_three": (with_seed(ensemble.HistGradientBoostingClassifier, max_iter=5), "three", HOLES),
    "hist_gradient_boosting_regressor": (with_seed(ensemble.HistGradientBoostingRegressor, max_iter=8), "real", HOLES),
    "isolation_forest": (with_seed(ensemble.IsolationForest, n_estimators=4), "none", X),
    "ada_boost": (with_seed(ensemble.AdaBoostClassifier, n_estimators=8), "three", X),
    "ada_boost_regressor": (with_seed(ensemble.AdaBoostRegressor, n_estimators=8), "real", X),
    "bagging": (with_seed(ensemble.BaggingClassifier, n_estimators=5), "three", X),
    "one_vs_rest_trees": (
        lambda: multiclass.OneVsRestClassifier(tree.DecisionTreeClassifier(max_depth=4, random_state=0)),
        "three",
        X,
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_trees(name: str) -> None:
    check(*TREES[name])


@pytest.mark.parametrize("name", ["decision_tree_two", "random_forest_regressor", "gradient_boosting_two"])
def test_trees_of_doubles(name: str) -> None:
    make, target, data, *_ = TREES[name]
    check(make, target, data, double=True, **({} if target == "real" else {"zipmap": False}))


LINEAR: dict[str, tuple[Any, ...]] = {
    "logistic_two": (linear_model.LogisticRegression, "two", X, "LinearClassifier"),
    "logistic_named": (linear_model.LogisticRegression, "named", X, "LinearClassifier"),
    "logistic_counts": (linear_model.LogisticRegression, "three", COUNTS, "LinearClassifier"),
    "ridge_classifier": (linear_model.RidgeClassifier, "three", X),
    "sgd_classifier": (with_seed(linear_model.SGDClassifier, loss="log_loss"), "three", X),
    "perceptron": (with_seed(linear_model.Perceptron), "two", X),
    "linear_svc": (svm.LinearSVC, "named", X, "LinearClassifier"),
    "linear_regression": (linear_model.LinearRegression, "real", X, "LinearRegressor"),
    "linear_regression_pair": (linear_model.LinearRegression, "pair", X, "LinearRegressor"),
    "elastic_net": (functools.partial(linear_model.ElasticNet, alpha=0.1), "real", X, "LinearRegressor"),
    "bayesian_ridge": (linear_model.BayesianRidge, "real", X),
    "huber": (linear_model.HuberRegressor, "real", X),
    "poisson": (linear_model.TweedieRegressor, "real", X),
    "discriminant": (discriminant_analysis.LinearDiscriminantAnalysis, "three", X),
    "quadratic_discriminant": (discriminant_analysis.QuadraticDiscriminantAnalysis, "three", X),
    "one_vs_rest": (lambda: multiclass.OneVsRestClassifier(linear_model.LogisticRegression()), "named", X),
    "multi_output": (lambda: multioutput.MultiOutputRegressor(linear_model.Ridge()), "pair", X),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models(name: str) -> None:
    check(*LINEAR[name])


@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid"])
@pytest.mark.parametrize("machine", ["SVC", "NuSVC", "SVR", "NuSVR", "OneClassSVM"])
def test_support_vectors(machine: str, kernel: str) -> None:
    make = functools.partial(getattr(svm, machine), kernel=kernel, gamma=0.2, coef0=0.5)
    if machine == "OneClassSVM":
        check(make, "none", X + 2, "SVMRegressor")
    elif machine.endswith("SVR"):
        check(make, "real", X, "SVMRegressor")
    else:  # a line that does not separate gives NuSVC coefficients of 1e4, whose sums have few digits in float32
        for target in ("side",) if (machine, kernel) == ("NuSVC", "linear") else ("two", "named"):
            check(make, target, X, "SVMClassifier")


@pytest.mark.parametrize("machine", ["SVC", "NuSVC"])
@pytest.mark.parametrize("target", ["two", "three", "named"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_support_vectors_with_probabilities(machine: str, target: str) -> None:
    check(functools.partial(getattr(svm, machine), probability=True, random_state=0), target, X, "SVMClassifier")


PREPARATION: dict[str, tuple[Any, ...]] = {
    "standard_scaler": (preprocessing.StandardScaler, "none", X, "Scaler"),
    "standard_scaler_counts": (preprocessing.StandardScaler, "none", COUNTS),
    "min_max_scaler": (preprocessing.MinMaxScaler, "none", X),
    "max_abs_scaler": (preprocessing.MaxAbsScaler, "none", X, "Scaler"),
    "robust_scaler": (preprocessing.RobustScaler, "none", X, "Scaler"),
    "normalizer_l1": (functools.partial(preprocessing.Normalizer, norm="l1"), "none", X, "Normalizer"),
    "normalizer_l2": (functools.partial(preprocessing.Normalizer, norm="l2"), "none", X, "Normalizer"),
    "normalizer_max": (functools.partial(preprocessing.Normalizer, norm="max"), "none", X, "Normalizer"),
    "binarizer": (functools.partial(preprocessing.Binarizer, threshold=0.3), "none", X, "Binarizer"),
    "mean_imputer": (impute.SimpleImputer, "none", HOLES, "Imputer"),
    "constant_imputer": (functools.partial(impute.SimpleImputer, strategy="constant", fill_value=-1), "none", HOLES),
    "median_imputer": (functools.partial(impute.SimpleImputer, strategy="median"), "none", HOLES, "Imputer"),
    "knn_imputer": (functools.partial(impute.KNNImputer, n_neighbors=3), "none", HOLES),
    "polynomial_features": (preprocessing.PolynomialFeatures, "none", X),
    "power_transformer": (preprocessing.PowerTransformer, "none", X),
    "discretizer": (functools.partial(preprocessing.KBinsDiscretizer, encode="ordinal"), "none", X),
    "discretizer_one_hot": (functools.partial(preprocessing.KBinsDiscretizer, encode="onehot-dense"), "none", X),
    "one_hot_words": (
        functools.partial(preprocessing.OneHotEncoder, sparse_output=False, handle_unknown="ignore"),
        "none",
        WORDS,
        "OneHotEncoder",
    ),
    "one_hot_counts": (functools.partial(preprocessing.OneHotEncoder, sparse_output=False), "none", COUNTS),
    "ordinal_words": (preprocessing.OrdinalEncoder, "none", WORDS),
    "ordinal_counts": (preprocessing.OrdinalEncoder, "none", COUNTS),
    "variance_threshold": (feature_selection.VarianceThreshold, "none", X, "ArrayFeatureExtractor"),
    "select_best": (functools.partial(feature_selection.SelectKBest, k=3), "three", X),
    "pca": (functools.partial(decomposition.PCA, n_components=3), "none", X),
    "truncated_svd": (functools.partial(decomposition.TruncatedSVD, n_components=3, random_state=0), "none", X),
}


@pytest.mark.parametrize("name", PREPARATION)
def test_preparation(name: str) -> None:
    check(*PREPARATION[name])


@pytest.mark.parametrize("kind", ["words", "counts"])
def test_label_encoder(kind: str) -> None:
    column = (WORDS if kind == "words" else COUNTS)[:, 0]
    encoder = preprocessing.LabelEncoder().fit(column)
    typed = (StringTensorType if kind == "words" else Int64TensorType)([None])
    model = skl2onnx.to_onnx(encoder, initial_types=[("x", typed)], target_opset=OPSETS)
    compare(model, {"x": column.astype(object) if kind == "words" else column}, "LabelEncoder", 0.0)


def test_label_binarizer() -> None:
    check(preprocessing.LabelBinarizer, "none", COUNTS[:, 0], initial_types=[("x", Int64TensorType([None]))])


def test_dictionaries() -> None:
    vectorizer = feature_extraction.DictVectorizer(sparse=False).fit(DICTS)
    typed = DictionaryType(StringTensorType([1]), FloatTensorType([1]))
    model = skl2onnx.to_onnx(vectorizer, initial_types=[("x", typed)], target_opset=OPSETS)
    for row in DICTS[:5]:
        compare(model, {"x": row}, "DictVectorizer", 0.0)


@pytest.mark.parametrize(
    ("vectorizer", "arguments"),
    [
        ("CountVectorizer", {}),
        ("CountVectorizer", {"ngram_range": (1, 2), "lowercase": False}),
        ("TfidfVectorizer", {"ngram_range": (1, 2), "lowercase": False}),
        ("TfidfVectorizer", {"norm": "l1", "lowercase": False}),
        ("TfidfVectorizer", {"use_idf": False, "lowercase": False, "sublinear_tf": True}),
    ],
)
def test_texts(vectorizer: str, arguments: dict[str, Any]) -> None:
    make = functools.partial(getattr(feature_extraction.text, vectorizer), token_pattern="[a-zA-Z]+", **arguments)
    estimator = make().fit(TEXTS)
    model = skl2onnx.to_onnx(estimator, initial_types=[("x", StringTensorType([None]))], target_opset=OPSETS)
    try:
        session(onnxruntime, model.SerializeToString())
    except Exception as error:
        if "locale" in str(error):
            pytest.skip("onnxruntime needs the system's locale en_US.UTF-8 for lower case")
        raise
    compare(model, {"x": TEXTS.astype(object)}, "TfIdfVectorizer", 1e-4)


OTHERS: dict[str, tuple[Any, ...]] = {
    "neighbors": (functools.partial(neighbors.KNeighborsClassifier, n_neighbors=4), "named", X),
    "neighbors_distance": (functools.partial(neighbors.KNeighborsRegressor, weights="distance"), "real", X, None, 1e-3),
    "gaussian_bayes": (naive_bayes.GaussianNB, "three", X),
    "bernoulli_bayes": (naive_bayes.BernoulliNB, "named", X),
    "multinomial_bayes": (naive_bayes.MultinomialNB, "three", COUNTS),
    "complement_bayes": (naive_bayes.ComplementNB, "three", COUNTS),
    "gaussian_process": (with_seed(gaussian_process.GaussianProcessRegressor, alpha=0.1), "real", X[:30], None, 1e-3),
    "network": (with_seed(neural_network.MLPClassifier, hidden_layer_sizes=(16, 8), max_iter=60), "named", X),
    "network_tanh": (
        with_seed(neural_network.MLPRegressor, hidden_layer_sizes=(12,), activation="tanh", max_iter=60),
        "real",
        X,
    ),
    "k_means": (with_seed(cluster.KMeans, n_clusters=3, n_init=1), "none", X),
    "mixture": (with_seed(mixture.GaussianMixture, n_components=3), "none", X),
    "voting": (
        lambda: ensemble.VotingClassifier(
            [("tree", tree.DecisionTreeClassifier(max_depth=3)), ("linear", linear_model.LogisticRegression())],
            voting="soft",
            flatten_transform=False,
        ),
        "three",
        X,
    ),
    "stacking": (
        lambda: ensemble.StackingRegressor(
            [("tree", tree.DecisionTreeRegressor(max_depth=3, random_state=0)), ("linear", linear_model.Ridge())]
        ),
        "real",
        X,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_estimators(name: str) -> None:
    check(*OTHERS[name])


@pytest.mark.parametrize("target", ["two", "three", "named"])
def test_zip_map(target: str) -> None:
    """Probabilities as a list of dictionaries (the default), as columns, and as a tensor."""
    make = with_seed(ensemble.RandomForestClassifier, n_estimators=5)
    check(make, target, X, "ZipMap")
    check(make, target, X, zipmap="columns")
    check(make, target, X, zipmap=False)
    check(linear_model.LogisticRegression, target, X, zipmap=False, raw_scores=True)


def test_pipeline_of_columns() -> None:
    """Numbers with holes and words, each prepared in its way, then a forest."""
    table = np.concatenate([HOLES[:, :3].astype(object), WORDS.astype(object)], axis=1)
    columns = compose.ColumnTransformer(
        [
            ("numbers", pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), [0, 1]),
            ("words", preprocessing.OneHotEncoder(handle_unknown="ignore"), [3, 4]),
            ("rest", "drop", [2]),
        ]
    )
    make = functools.partial(pipeline.make_pipeline, columns, ensemble.RandomForestClassifier(9, random_state=0))
    kinds = [FloatTensorType, FloatTensorType, FloatTensorType, StringTensorType, StringTensorType]
    types = [(f"f{i}", kind([None, 1])) for i, kind in enumerate(kinds)]
    model = skl2onnx.to_onnx(fitted(make, table, NAMED), initial_types=types, target_opset=OPSETS)
    used = [int(given.name[1:]) for given in model.graph.input]
    feeds = {f"f{i}": table[:, [i]] if i > 2 else HOLES[:, [i]] for i in used}
    compare(model, feeds, "OneHotEncoder", 1e-4)


def tools() -> Any:
    return pytest.importorskip("onnxmltools", reason="pip install onnxmltools")


def converted(convert: str, estimator: Any, data: Any = X, **options: Any) -> Any:
    types = importlib.import_module("onnxmltools.convert.common.data_types")
    initial = [("x", types.FloatTensorType([None, data.shape[1]]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(tools(), convert)(estimator, initial_types=initial, target_opset=15, **options)


@pytest.mark.parametrize(
    ("learner", "target", "data", "arguments"),
    [
        ("XGBClassifier", "two", HOLES, {"max_depth": 4}),
        ("XGBClassifier", "three", HOLES, {}),
        ("XGBRegressor", "real", HOLES, {"max_depth": 6}),
        ("XGBRegressor", "real", X, {"base_score": 0.7, "grow_policy": "lossguide", "max_leaves": 9}),
        ("XGBRegressor", "real", X, {"objective": "reg:quantileerror", "quantile_alpha": 0.7}),
        ("XGBRegressor", "two", X, {"objective": "count:poisson"}),
        ("XGBRFClassifier", "three", X, {}),
        ("XGBRanker", "three", X, {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "+".join(v) if isinstance(v, dict) else "missing" if v is HOLES else "",
)
def test_xgboost(learner: str, target: str, data: Any, arguments: dict[str, Any]) -> None:
    xgboost = pytest.importorskip("xgboost", reason="pip install xgboost-cpu")
    tools()
    estimator = getattr(xgboost, learner)(n_estimators=12, n_jobs=1, random_state=0, **arguments)
    groups = {"group": [ROWS // 4] * 4} if learner == "XGBRanker" else {}
    estimator.fit(data, TARGETS[target], **groups)
    if learner == "XGBRanker":  # converted as what it is made of
        estimator = estimator.get_booster()
    compare(converted("convert_xgboost", estimator, data), {"x": data}, None, 1e-4)


def test_xgboost_stopped_early() -> None:
    xgboost = pytest.importorskip("xgboost", reason="pip install xgboost-cpu")
    tools()
    estimator = xgboost.XGBClassifier(n_estimators=40, n_jobs=1, early_stopping_rounds=2)
    estimator.fit(X[:100], THREE[:100], eval_set=[(X[100:], THREE[100:])], verbose=False)
    compare(converted("convert_xgboost", estimator), {"x": X}, CLASSIFIER, 1e-4)


@pytest.mark.parametrize(
    ("learner", "target", "data", "arguments"),
    [
        ("LGBMClassifier", "two", HOLES, {}),
        ("LGBMClassifier", "three", HOLES, {"num_leaves": 15}),
        ("LGBMClassifier", "named", X, {"boosting_type": "dart"}),
        ("LGBMClassifier", "two", X, {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}),
        ("LGBMClassifier", "three", X, {"objective": "multiclassova"}),
        ("LGBMRegressor", "real", HOLES, {"max_depth": 6}),
        ("LGBMRegressor", "two", X, {"objective": "poisson"}),
        ("LGBMRanker", "three", X, {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "+".join(v) if isinstance(v, dict) else "missing" if v is HOLES else "",
)
def test_lightgbm(learner: str, target: str, data: Any, arguments: dict[str, Any]) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="pip install lightgbm")
    tools()
    settings = {"n_estimators": 12, "n_jobs": 1, "verbose": -1, "min_child_samples": 5, "random_state": 0}
    estimator = getattr(lightgbm, learner)(**settings, **arguments)
    groups = {"group": [ROWS // 4] * 4} if learner == "LGBMRanker" else {}
    estimator.fit(data, TARGETS[target], **groups)
    compare(converted("convert_lightgbm", estimator, data, zipmap=False), {"x": data}, None, 1e-4)


@pytest.mark.parametrize("target", ["two", "three", "real"])
def test_lightgbm_with_categories(target: str) -> None:
    """Categories become tests for equality, several of them for a set."""
    lightgbm = pytest.importorskip("lightgbm", reason="pip install lightgbm")
    tools()
    data = np.concatenate([X[:, :3], RNG.integers(0, 9, size=(ROWS, 2)).astype(np.float32)], axis=1)
    cls = lightgbm.LGBMRegressor if target == "real" else lightgbm.LGBMClassifier
    settings = {"min_data_per_group": 5, "cat_smooth": 1, "max_cat_to_onehot": 1, "min_child_samples": 3}
    estimator = cls(n_estimators=8, n_jobs=1, verbose=-1, **settings)
    estimator.fit(data, TARGETS[target], categorical_feature=[3, 4])
    unseen = data.copy()
    unseen[::7, 3] = 77
    unseen[::5, 4] = np.nan
    model = converted("convert_lightgbm", estimator, data, zipmap=False)
    compare(model, {"x": data}, None, 1e-4)
    compare(model, {"x": unseen}, None, 1e-4)
