//! What the index is for: searches through the alias, asked with the official client as the
//! pipeline's `QueryClient` asks them.

use elasticsearch::SearchParts;
use serde_json::{Value, json};

use crate::support::{SyncEs, World, in_world};

/// Names, country, a place, and a direction that the embedding points to.
const ORGANIZATIONS: &str = "
    INSERT INTO integrated_records (hk, name, legal_name, description, city, country_code, latitude, longitude,
                                    industry_codes, employee_count, annual_revenue, founded_on, identifiers, embedding)
    VALUES ('a', 'Alpine Wind Power', 'Alpine Wind Power AG', 'Builds wind turbines in the mountains', 'Chur', 'CH', 46.85, 9.53,
            '{D35,C28}', 120, 1500000.50, '1998-04-01', '{\"lei\": \"LEI-A\"}', '{1,0.1,0,0,0,0,0,0}'),
           ('b', 'Baltic Offshore Wind', NULL, 'Turbines at sea', 'Rostock', 'DE', 54.09, 12.14,
            '{D35}', 900, 99000000.00, '2005-01-01', '{\"lei\": \"LEI-B\"}', '{0.9,0.3,0,0,0,0,0,0}'),
           ('c', 'Chocolaterie du Lac', 'Chocolaterie du Lac SA', 'Chocolate and pralines', 'Geneva', 'CH', 46.2, 6.15,
            '{C10}', 12, 800000.00, '1921-10-10', '{\"lei\": \"LEI-C\"}', '{0,0,1,0.2,0,0,0,0}'),
           ('d', 'Danube Shipping', NULL, 'Freight on the river, no wind needed', 'Vienna', 'AT', 48.21, 16.37,
            '{H50}', 300, NULL, NULL, NULL, '{0,0,0,0,1,0,0,0.1}')";

async fn with_organizations(world: &World) -> SyncEs {
    let mut program = world.run();
    world.live(&mut program).await;
    world.execute(ORGANIZATIONS).await;
    world.caught_up(&mut program).await;
    world.search.count(world.alias()).await.unwrap();
    program
}

/// The ids of the hits, the best first.
async fn hits(world: &World, body: Value) -> Vec<String> {
    let response = world
        .search
        .client
        .search(SearchParts::Index(&[world.alias()]))
        .body(body)
        .send()
        .await
        .unwrap();
    let answer: Value = response.json().await.unwrap();
    let hits = answer["hits"]["hits"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    hits.iter()
        .map(|hit| hit["_id"].as_str().unwrap().to_owned())
        .collect()
}

/// The organizations found, in the order of their keys.
async fn found(world: &World, query: Value) -> Vec<String> {
    hits(world, json!({ "query": query, "sort": ["hk"] })).await
}

#[test]
fn text_keywords_places_numbers_and_dates_are_found_through_the_alias() {
    in_world(async |world| {
        let program = with_organizations(world).await;
        let cases = [
            (json!({ "match": { "name": "wind" } }), vec!["a", "b"]),
            (
                json!({ "multi_match": { "query": "turbines", "fields": ["name", "description"] } }),
                vec!["a", "b"],
            ),
            (
                json!({ "term": { "name.keyword": "Danube Shipping" } }),
                vec!["d"],
            ),
            (
                json!({ "term": { "address.country_code": "CH" } }),
                vec!["a", "c"],
            ),
            (json!({ "match": { "address.city": "vienna" } }), vec!["d"]),
            (
                json!({ "terms": { "industry_codes": ["C28", "H50"] } }),
                vec!["a", "d"],
            ),
            (json!({ "term": { "identifiers.lei": "LEI-B" } }), vec!["b"]),
            (
                json!({ "range": { "employee_count": { "gte": 300 } } }),
                vec!["b", "d"],
            ),
            (
                json!({ "range": { "annual_revenue": { "lt": 2_000_000 } } }),
                vec!["a", "c"],
            ),
            (
                json!({ "range": { "founded_on": { "lt": "2000-01-01" } } }),
                vec!["a", "c"],
            ),
            (
                json!({ "geo_distance": { "distance": "250km", "location": { "lat": 46.5, "lon": 8.0 } } }),
                vec!["a", "c"],
            ),
            (
                json!({ "exists": { "field": "annual_revenue" } }),
                vec!["a", "b", "c"],
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(found(world, query.clone()).await, expected, "{query}");
        }
        program.stop().await;
    });
}

#[test]
fn the_nearest_vectors_are_found_through_the_alias() {
    in_world(async |world| {
        let program = with_organizations(world).await;
        let knn = json!({ "field": "embedding", "query_vector": [1, 0, 0, 0, 0, 0, 0, 0], "k": 2, "num_candidates": 10 });
        assert_eq!(hits(world, json!({ "knn": knn })).await, ["a", "b"]);
        let mut filtered = knn;
        filtered["filter"] = json!({ "term": { "address.country_code": "DE" } });
        assert_eq!(hits(world, json!({ "knn": filtered })).await, ["b"]);
        program.stop().await;
    });
}

#[test]
fn text_filter_and_vector_work_together_in_one_hybrid_query() {
    in_world(async |world| {
        let program = with_organizations(world).await;
        let swiss = json!({ "term": { "address.country_code": "CH" } });
        let body = json!({
            "query": { "bool": { "must": { "match": { "description": "chocolate" } }, "filter": swiss } },
            "knn": {
                "field": "embedding",
                "query_vector": [1, 0, 0, 0, 0, 0, 0, 0],
                "k": 2,
                "num_candidates": 10,
                "filter": swiss,
                "boost": 0.1
            }
        });
        // The one by its words, the other by its vector; nothing from abroad.
        assert_eq!(hits(world, body).await, ["c", "a"]);
        program.stop().await;
    });
}

#[test]
fn a_changed_row_is_found_by_what_it_now_is() {
    in_world(async |world| {
        let mut program = with_organizations(world).await;
        world
            .execute(
                "UPDATE integrated_records SET name = 'Danube Solar', country_code = 'HU', embedding = '{1,0,0,0,0,0,0,0}'
                  WHERE hk = 'd'",
            )
            .await;
        world.caught_up(&mut program).await;
        world.search.count(world.alias()).await.unwrap();
        assert_eq!(
            found(world, json!({ "match": { "name": "solar" } })).await,
            ["d"]
        );
        assert_eq!(
            found(world, json!({ "term": { "address.country_code": "AT" } })).await,
            Vec::<String>::new()
        );
        let knn = json!({ "field": "embedding", "query_vector": [1, 0, 0, 0, 0, 0, 0, 0], "k": 1, "num_candidates": 10 });
        assert_eq!(hits(world, json!({ "knn": knn })).await, ["d"]);
        program.stop().await;
    });
}
