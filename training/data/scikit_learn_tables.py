"""The four small tables that come with scikit-learn, with names and units for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from app.core.manifest.table import Table
from training.data.base import DataError
from training.data.column_header import Header
from training.data.table import TableDataset, category, number, target

UCI: Final = "CC BY 4.0"


def iris() -> TableDataset:
    """150 flowers of three species, four lengths in cm."""
    found = _sklearn("iris")
    return _classes(
        "iris",
        found,
        title="Iris (Fisher 1936)",
        target_column="species",
        labels=tuple(str(name) for name in found.target_names),
        source="Fisher: The use of multiple measurements in taxonomic problems (1936), UCI, from scikit-learn",
    )


def wine() -> TableDataset:
    """178 wines of three cultivars, thirteen chemical measurements."""
    return _classes(
        "wine",
        _sklearn("wine"),
        title="Wine (UCI)",
        target_column="cultivar",
        labels=("cultivar 1", "cultivar 2", "cultivar 3"),
        source="Aeberhard, Forina: Wine, UCI (1991), from scikit-learn",
    )


def breast_cancer() -> TableDataset:
    """569 fine-needle aspirates, thirty measurements of the cell nuclei on a picture."""
    found = _sklearn("breast_cancer")
    return _classes(
        "breast-cancer",
        found,
        title="Breast Cancer Wisconsin (Diagnostic)",
        target_column="diagnosis",
        labels=tuple(str(name) for name in found.target_names),
        source="Wolberg, Mangasarian, Street, Street: Breast Cancer Wisconsin, UCI (1993), from scikit-learn",
    )


# What the paper and its data file say of the columns; scikit-learn's own names are age, sex, bmi, bp, s1 to s6.
DIABETES: Final = {
    "age": ("age", "years", ""),
    "sex": ("sex", "", "1 or 2; the source does not say which is which"),
    "bmi": ("body mass index", "kg/m²", ""),
    "bp": ("blood pressure", "mmHg", "mean arterial"),
    "s1": ("total cholesterol", "mg/dl", "serum"),
    "s2": ("ldl", "mg/dl", "low-density lipoproteins"),
    "s3": ("hdl", "mg/dl", "high-density lipoproteins"),
    "s4": ("cholesterol ratio", "", "total cholesterol / hdl"),
    "s5": ("log triglycerides", "", "natural logarithm of the serum triglycerides, as the source guesses"),
    "s6": ("glucose", "mg/dl", "blood sugar"),
}


def diabetes() -> TableDataset:
    """442 patients, ten measurements; how far the disease had gone a year later."""
    found = _sklearn("diabetes", scaled=False)
    x, y = np.array(found.data, np.float32), np.array(found.target, np.float32)
    columns: list[Any] = []
    for j, own in enumerate(found.feature_names):
        name, unit, about = DIABETES[own]
        if own == "sex":
            x[:, j] -= 1
            columns.append(category(name, x[:, j], ("1", "2"), about=about))
        else:
            columns.append(number(name, x[:, j], unit=unit, about=about))
    return TableDataset(
        name="diabetes",
        title="Diabetes (Efron et al. 2004)",
        table=Table(columns=tuple(columns)),
        target=target("progression", y),
        labels=(),
        target_column="progression",
        train_x=torch.from_numpy(x),
        train_y=torch.from_numpy(y),
        test_x=torch.zeros(0, x.shape[1]),
        test_y=torch.zeros(0),
        source="Efron, Hastie, Johnstone, Tibshirani: Least angle regression (2004), from scikit-learn",
        licence="not stated",
        note="progression is a score without a unit, one year after the measurements",
    )


SOURCES: Final[dict[str, Callable[[], TableDataset]]] = {
    "iris": iris,
    "wine": wine,
    "breast-cancer": breast_cancer,
    "diabetes": diabetes,
}


def _classes(
    name: str, found: Any, *, title: str, target_column: str, labels: tuple[str, ...], source: str
) -> TableDataset:
    x, y = np.array(found.data, np.float32), np.array(found.target, np.int64)
    headers = [Header.of(str(own).replace("_", " ")) for own in found.feature_names]
    columns = tuple(number(h.name, x[:, j], unit=h.unit) for j, h in enumerate(headers))
    return TableDataset(
        name=name,
        title=title,
        table=Table(columns=columns),
        target=None,
        labels=labels,
        target_column=target_column,
        train_x=torch.from_numpy(x),
        train_y=torch.from_numpy(y),
        test_x=torch.zeros(0, x.shape[1]),
        test_y=torch.zeros(0, dtype=torch.int64),
        source=source,
        licence=UCI,
    )


def _sklearn(name: str, **options: Any) -> Any:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(f"{name}: comes with scikit-learn, which cannot be imported ({error})") from error
    return getattr(datasets, f"load_{name}")(**options)
