"""The job that sync-es replaces, as one writes it: every row of the table into an index.

A server-side cursor, a dict for each row, a dict for each document, and the official client's
streaming_bulk with chunks of 100. No resuming, no changes afterwards, nothing set aside.
"""

import os
from datetime import date, datetime
from decimal import Decimal

import psycopg
from elasticsearch import Elasticsearch
from elasticsearch.helpers import streaming_bulk
from psycopg.rows import dict_row

ADDRESS = ("street", "city", "region", "postal_code", "country_code")


def plain(value):
    """What JSON has no form for, as text."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value


def document(row):
    """The document of a row: NULL is left out, the address and the place are objects."""
    values = {name: plain(value) for name, value in row.items() if value is not None}
    address = {name: values.pop(name) for name in ADDRESS if name in values}
    if address:
        values["address"] = address
    latitude, longitude = values.pop("latitude", None), values.pop("longitude", None)
    if latitude is not None and longitude is not None:
        values["location"] = {"lat": latitude, "lon": longitude}
    return values


def actions(cursor, index):
    """One action for each row."""
    for row in cursor:
        yield {"_index": index, "_id": row["hk"], "_source": document(row)}


def main():
    client = Elasticsearch(os.environ["ELASTICSEARCH_URLS"], request_timeout=60)
    index = os.environ["ELASTICSEARCH_INDEX_NAME"]
    done = 0
    with psycopg.connect(os.environ["POSTGRES_URL"]) as connection:
        with connection.cursor(name="job", row_factory=dict_row) as cursor:
            cursor.itersize = 10_000
            cursor.execute("SELECT * FROM integrated_records ORDER BY hk")
            for _ in streaming_bulk(client, actions(cursor, index), chunk_size=100):
                done += 1
    print(done)


main()
