"""Scripts that take and give Spark's data frames, in an environment with pyspark that is made once."""

import time

import pytest

from tests.parts.environments import environment

# Java, and a session of Spark, on a machine that does other things.
START_S = 300
PACKAGES = ("pyspark==4.3.0", "inference-schema==1.8", "pandas<3", "setuptools<81")
SCRIPT = """
from inference_schema.parameter_types.spark_parameter_type import SparkParameterType
from inference_schema.schema_decorators import input_schema, output_schema
from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
sample = spark.createDataFrame([("red", 1.5)], ["colour", "size"])

@input_schema("data", SparkParameterType(sample))
@output_schema(SparkParameterType(sample))
def run(data):
    print(data.count(), "rows")
    return data.selectExpr("upper(colour) as colour", "size * 2 as size", "date '2021-02-01' as day")
"""
pytestmark = [pytest.mark.long, pytest.mark.needs("java"), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def python():
    """The Python of the environment with pyspark."""
    return environment("spark", *PACKAGES)


@pytest.fixture(scope="module")
def server(start, script, python):
    server = start("--script", script(SCRIPT), EDGEFLEET_SCRIPT_PYTHON=str(python))
    ends = time.monotonic() + START_S
    while "ready after" not in server.log and server.process.poll() is None and time.monotonic() < ends:
        time.sleep(0.5)  # another process starts a third one
    return server.ready()


def ask(server, rows):
    return server.ask(body={"data": rows}, headers={"content-type": "application/json"})


def test_frames(server):
    """Rows come as a data frame of the sample's types, and a data frame that is returned becomes rows."""
    reply = ask(server, [{"colour": "red", "size": 2.5}] * 2)
    assert (reply.status, reply.json) == (200, [{"colour": "RED", "size": 5.0, "day": "2021-02-01"}] * 2)
    assert "] 2 rows\n" in server.log
    assert ask(server, []).json == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"colour": "red", "size": "x"}], "field size"),
        ([{"colour": "red"}], "data: there is no 'size'"),
        (5, "unable to convert"),
    ],
)
def test_wrong_rows(server, rows, said):
    """What does not fit the sample is the caller's mistake, and says where."""
    reply = ask(server, rows)
    assert (reply.status, said in reply.json["message"]) == (400, True), reply.json


def test_document(server):
    """The sample is the documented example, and is answered."""
    found = server.ask("/swagger.json?version=3").json["components"]["schemas"]["ServiceInput"]
    assert found["properties"]["data"]["items"]["properties"]["size"] == {"type": "number", "format": "double"}
    assert server.ask(body=found["example"], headers={"content-type": "application/json"}).status == 200
