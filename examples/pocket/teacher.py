"""A second opinion on the intent of each training row: out-of-fold probabilities of a linear model over words and characters.

`python teacher.py --data DATA --out teacher.npz`. Writes `probabilities` (rows, intents) float16 in the order of the rows and of the sorted
intents. The decoders learn from it a little (see train.py), which keeps them from learning mislabelled rows by heart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import corpus
import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from leanto_edge.calls import normalise

FOLDS = 5


def main() -> None:
    """Fit one model per fold and keep what each says of the rows it did not see."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = corpus.rows(args.data, "train")
    features = vectors([normalise(row["utterance"]) for row in rows])
    names = sorted({row["intent"] for row in rows})
    labels = np.array([names.index(row["intent"]) for row in rows])
    probabilities = np.zeros((len(rows), len(names)), np.float16)
    for seen, unseen in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(features, labels):
        model = LogisticRegression(C=20.0, max_iter=60, tol=1e-3).fit(features[seen], labels[seen])
        probabilities[np.ix_(unseen, model.classes_)] = model.predict_proba(features[unseen])
        print("fold accuracy", float((probabilities[unseen].argmax(1) == labels[unseen]).mean()), flush=True)
    np.savez_compressed(args.out, probabilities=probabilities)


def vectors(texts: list[str]) -> csr_matrix:
    """TF-IDF of word 1–2-grams and character 2–4-grams, (rows, features) float32."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32, token_pattern=r"\S+", min_df=2)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, dtype=np.float32, min_df=3)
    return hstack([words.fit_transform(texts), characters.fit_transform(texts)]).tocsr()


if __name__ == "__main__":
    main()
