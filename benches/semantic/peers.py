"""The same models in the formats of wren-core and MetricFlow, and how long these two take; used by bench.py.

    peers.py translate MODELS OUT      writes OUT/wren.json and OUT/metricflow.json from Steward's YAML below MODELS
    peers.py wren|metricflow FILE DATASETS SECONDS    measures in this process and prints JSON

What is measured of each peer, imports left out:

wren        load: read the file, make a SessionContext. Compile: transform_sql of the metric as SQL over the models, with
            the join written out, which is what it takes; without a metric layer in between it does less than the others.
            `extracted`: the other way that it offers, a context of only the models that the query names, made each time.
metricflow  load: read the file, parse it, SemanticManifestLookup, MetricFlowEngine. The manifest is written after
            MetricFlow's own transformations, as dbt writes it, so those are not in the time; neither is YAML. Compile:
            explain() of the metric by the dimension, as DuckDB's SQL.

Nobody runs SQL. SECONDS bounds each of the loads and the calls, not one call: at least one load and five calls are made.
"""

import base64
import json
import os
import statistics
import sys
import time
from pathlib import Path

TYPES = {"Integer": "bigint", "Date": "date", "String": "varchar", "Float": "double"}
MOST_LOADS, MOST_CALLS, LEAST_CALLS = 3, 5_000, 5


# The models.

def datasets(folder):
    """Yields (pair, fact, dimension, relationship, metric) of Steward's files."""
    import yaml
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(Path(folder).rglob("pair_*.yaml"), key=lambda path: int(path.stem.split("_")[1])):
        model = yaml.load(path.read_text(), loader)
        fact, dimension = model["datasets"]
        yield int(path.stem.split("_")[1]), fact, dimension, model["relationships"][0], model["metrics"][0]


def wren_model(dataset, relationship=None):
    catalog, schema, table = dataset["source"].split(".")
    columns = []
    for field in dataset["fields"]:
        known = {"synonyms": ", ".join(field.get("synonyms", [])), "unit": field.get("unit", ""),
                 "sample_values": ", ".join(map(str, field.get("sample_values", [])))}
        column = {"name": field["name"], "type": TYPES[field["datatype"]],
                  "properties": {"description": field["description"], **{key: text for key, text in known.items() if text}}}
        if "expression" in field:
            column["expression"] = field["expression"]
        columns.append(column)
    if relationship:
        columns.append({"name": "product", "type": relationship["to"], "relationship": relationship["name"]})
    return {"name": dataset["name"], "tableReference": {"catalog": catalog, "schema": schema, "table": table},
            "primaryKey": dataset["primary_key"][0], "columns": columns,
            "properties": {"description": dataset["description"], "synonyms": ", ".join(dataset["synonyms"])}}


def wren_manifest(folder):
    models, relationships, cubes = [], [], []
    for pair, fact, dimension, relationship, metric in datasets(folder):
        models += [wren_model(fact, relationship), wren_model(dimension)]
        condition = " AND ".join(f"{fact['name']}.{left} = {dimension['name']}.{right}" for left, right in
                                 zip(relationship["from_columns"], relationship["to_columns"]))
        relationships.append({"name": relationship["name"], "models": [fact["name"], dimension["name"]],
                              "joinType": "MANY_TO_ONE", "condition": condition})
        # What Wren has for metrics; it is in the manifest, transform_sql does not need it.
        cubes.append({"name": f"sales_{pair}", "baseObject": fact["name"], "dimensions": [], "timeDimensions": [],
                      "measures": [{"name": metric["name"], "expression": metric["expression"], "type": "double"}]})
    return {"catalog": "steward", "schema": "bench", "models": models, "relationships": relationships, "cubes": cubes,
            "views": []}


def metricflow_model(dataset, relationship, metric):
    catalog, schema, table = dataset["source"].split(".")
    expressions = {field["name"]: field.get("expression") for field in dataset["fields"]}
    is_fact = dataset["name"] == relationship["from"]
    key, target = dataset["primary_key"][0], relationship["to"] + "_id"
    entities = [{"name": dataset["name"] + "_id", "type": "primary", "expr": key}]
    others = {key}
    if is_fact:
        [foreign] = relationship["from_columns"]
        entities.append({"name": target, "type": "foreign", "expr": foreign})
        others.add(foreign)
    dimensions = []
    for field in dataset["fields"]:
        if field["name"] in others:
            continue
        one = {"name": field["name"], "type": "categorical", "description": field["description"],
               "expr": field.get("expression"), "config": {"meta": {
                   key: field[key] for key in ("synonyms", "unit", "sample_values") if key in field}}}
        if field["datatype"] == "Date":
            one.update(type="time", type_params={"time_granularity": "day"})
        dimensions.append(one)
    model = {"name": dataset["name"], "description": dataset["description"], "entities": entities,
             "dimensions": dimensions, "measures": [], "config": {"meta": {"synonyms": dataset["synonyms"]}},
             "node_relation": {"alias": table, "schema_name": schema, "database": catalog,
                               "relation_name": dataset["source"]}}
    if is_fact:
        summed = metric["expression"].removeprefix("SUM(").removesuffix(")")
        model["defaults"] = {"agg_time_dimension": "ordered_at"}
        # MetricFlow sums an expression over the table, Steward a field: the field is written out.
        model["measures"] = [{"name": metric["name"], "agg": "sum", "expr": expressions[summed] or summed}]
    return model


def metricflow_manifest(folder):
    from metricflow_semantic_interfaces.implementations.semantic_manifest import PydanticSemanticManifest
    from metricflow_semantic_interfaces.transformations.semantic_manifest_transformer import (
        PydanticSemanticManifestTransformer,
    )
    models, metrics = [], []
    for _, fact, dimension, relationship, metric in datasets(folder):
        models += [metricflow_model(dataset, relationship, metric) for dataset in (fact, dimension)]
        metrics.append({"name": metric["name"], "description": metric["description"], "type": "simple",
                        "type_params": {"measure": {"name": metric["name"]}}})
    # MetricFlow takes no manifest without a table of days.
    days = {"alias": "days", "schema_name": "time", "database": "local", "relation_name": "local.time.days"}
    spine = {"node_relation": days, "primary_column": {"name": "day", "time_granularity": "day"}}
    manifest = {"semantic_models": models, "metrics": metrics, "saved_queries": [],
                "project_configuration": {"time_spines": [spine]}}
    parsed = PydanticSemanticManifest.parse_raw(json.dumps(manifest))
    return PydanticSemanticManifestTransformer.transform(parsed).json()


def translate(folder, out):
    Path(out, "wren.json").write_text(json.dumps(wren_manifest(folder)))
    Path(out, "metricflow.json").write_text(metricflow_manifest(folder))


# The peers: an object with load(file) -> engine and compile(engine, pair) -> SQL.

class Wren:
    def __init__(self):
        import wren_core
        self.core = wren_core

    def encoded(self, file):
        return base64.b64encode(Path(file).read_bytes()).decode()

    def load(self, file):
        return self.core.SessionContext(self.encoded(file), None, None, "duckdb")

    def query(self, pair):
        return (f"SELECT d.category, SUM(f.fact_value_1) AS sum_{pair} FROM fact_{pair} AS f "
                f"LEFT JOIN dimension_{pair} AS d ON f.dimension_key = d.dimension_id GROUP BY d.category")

    def compile(self, context, pair):
        return context.transform_sql(self.query(pair))


class ExtractedWren(Wren):
    def load(self, file):
        return self.core.ManifestExtractor(self.encoded(file))

    def compile(self, extractor, pair):
        sql = self.query(pair)
        manifest = extractor.extract_by(extractor.resolve_used_table_names(sql))
        context = self.core.SessionContext(self.core.to_json_base64(manifest), None, None, "duckdb")
        return context.transform_sql(sql)


class MetricFlow:
    def __init__(self):
        from metricflow.engine import metricflow_engine
        from metricflow.protocols.sql_client import SqlEngine
        from metricflow.sql.render.duckdb_renderer import DuckDbSqlPlanRenderer
        from metricflow_semantic_interfaces.implementations.semantic_manifest import PydanticSemanticManifest
        from metricflow_semantics.model.semantic_manifest_lookup import SemanticManifestLookup

        class Client:
            """What explain() asks of a warehouse's client."""
            sql_engine_type, sql_plan_renderer = SqlEngine.DUCKDB, DuckDbSqlPlanRenderer()

        self.manifest, self.lookup, self.client = PydanticSemanticManifest, SemanticManifestLookup, Client()
        self.engine, self.request = metricflow_engine.MetricFlowEngine, metricflow_engine.MetricFlowQueryRequest

    def load(self, file):
        manifest = self.manifest.parse_raw(Path(file).read_text())
        return self.engine(self.lookup(manifest), self.client)

    def compile(self, engine, pair):
        request = self.request.create(metric_names=[f"sum_{pair}"], group_by_names=[f"dimension_{pair}_id__category"])
        return engine.explain(request).sql_statement.sql


def repeated(work, most, least, seconds):
    """Times of work(0), work(1) and so on, and the last result."""
    times, cpu, deadline = [], time.process_time(), time.perf_counter() + seconds
    while len(times) < most and (len(times) < least or time.perf_counter() < deadline):
        started = time.perf_counter()
        result = work(len(times))
        times.append((time.perf_counter() - started) * 1e3)
    cpu_ms = (time.process_time() - cpu) * 1e3 / len(times)
    return {"calls": len(times), "p50_ms": statistics.median(times), "p99_ms": sorted(times)[(len(times) * 99 - 1) // 100],
            "cpu_ms": cpu_ms}, result


def calls(peer, engine, pairs, seconds):
    last = pairs - 1
    sql = peer.compile(engine, last)
    assert "JOIN" in sql and f"sum_{last}" in sql and "NULLIF" in sql.upper(), f"another query than the one that was meant: {sql}"
    same, _ = repeated(lambda _: peer.compile(engine, last), MOST_CALLS, LEAST_CALLS, seconds)
    others, _ = repeated(lambda call: peer.compile(engine, call % pairs), MOST_CALLS, LEAST_CALLS, seconds)
    return {"same": same, "others": others, "sql": sql}


def measure(name, file, size, seconds):
    peer, pairs = {"wren": Wren, "metricflow": MetricFlow}[name](), size // 2
    loads, engine = repeated(lambda _: peer.load(file), MOST_LOADS, 1, seconds)
    found = {"datasets": size, "size_bytes": os.stat(file).st_size, "loads": loads["calls"],
             "load_ms": loads["p50_ms"], "load_cpu_ms": loads["cpu_ms"],
             **calls(peer, engine, pairs, seconds)}
    if name == "wren":
        peer = ExtractedWren()
        found["extracted"] = calls(peer, peer.load(file), pairs, seconds)
    return found


def main():
    match sys.argv[1:]:
        case ["translate", folder, out]:
            translate(folder, out)
        case ["wren" | "metricflow" as name, file, size, seconds]:
            print(json.dumps(measure(name, file, int(size), float(seconds))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
