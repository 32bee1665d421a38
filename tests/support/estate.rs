//! What a world may hold beside its table, and nothing else: one slot, one index, one alias, our
//! records, our templates.

use elasticsearch::http::Method;

use super::world::World;

/// Fails the test if the program has left anything behind, or is without something, in either server.
/// `audit` names further slots and publications that are the test's own.
pub(crate) async fn assert_tidy(world: &World, audit: &[&str]) {
    let name = &world.name;
    let mut slots = vec![world.slot()];
    slots.extend(audit.iter().map(ToString::to_string));
    slots.sort();
    let there: Vec<String> = names(
        world,
        "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() ORDER BY 1",
    )
    .await;
    assert_eq!(there, slots, "slots");
    let mut publications = vec!["sync_es_integrated_records".to_owned()];
    publications.extend(audit.iter().map(ToString::to_string));
    publications.sort();
    let there = names(world, "SELECT pubname::text FROM pg_publication ORDER BY 1").await;
    assert_eq!(there, publications, "publications");

    let mut indices = world.search.indices(&format!("{name}*")).await;
    indices.retain(|index| !index.ends_with("-sync-dead-letters"));
    indices.sort();
    let expected = [format!("{name}-sync-metadata"), world.index()];
    assert_eq!(indices, expected, "indices");
    assert_eq!(world.search.indices(world.alias()).await, [world.index()]);
    let (_, aliases) = world
        .search
        .ask(Method::Get, &format!("/{}/_alias", world.index()), None)
        .await;
    let aliases = aliases[world.index()]["aliases"].as_object().unwrap();
    assert_eq!(
        aliases.keys().collect::<Vec<_>>(),
        [world.alias()],
        "aliases"
    );
}

async fn names(world: &World, query: &str) -> Vec<String> {
    let rows = world.connection().await.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
