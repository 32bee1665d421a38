//! Generated values, sent as PostgreSQL's source says that it sends them, against what another library
//! or plain arithmetic makes of the same values.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Field, Scalar, Type, TypeKind, Value, decode};

fn scalar(oid: u32, scalar: Scalar) -> Arc<Type> {
    made(oid, TypeKind::Scalar(scalar))
}

fn made(oid: u32, kind: TypeKind) -> Arc<Type> {
    let name = "made".to_owned();
    Arc::new(Type { oid, name, kind })
}

fn int4() -> Arc<Type> {
    scalar(23, Scalar::Int4)
}

/// What a decoded value means.
fn meaning(value: &Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => json!(flag),
        Value::Int(number) => json!(number),
        Value::Float4(float) => json!(float.to_bits()),
        Value::Float8(float) => json!(float.to_bits()),
        Value::Decimal(text) => json!(text),
        Value::Text(text) => json!(text),
        Value::Json(text) => serde_json::from_str(text).unwrap(),
        Value::Floats(floats) => floats.iter().map(|float| json!(float.to_bits())).collect(),
        Value::Array(values) => values.iter().map(meaning).collect(),
        Value::Object(members) => {
            let members = members.iter();
            let members = members.map(|(name, value)| (name.to_string(), meaning(value)));
            Json::Object(members.collect())
        }
    }
}

fn read(ty: &Type, bytes: &[u8]) -> Json {
    meaning(&decode(ty, bytes).unwrap())
}

/// A value behind its length, -1 for NULL.
fn sized(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        None => (-1_i32).to_be_bytes().to_vec(),
        Some(bytes) => [&word(bytes.len())[..], bytes].concat(),
    }
}

fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_be_bytes()
}

/// `array_send` of elements in the order of the last dimension.
fn array(element: u32, dimensions: &[(usize, i32)], elements: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = word(dimensions.len()).to_vec();
    bytes.extend(u32::from(elements.iter().any(Option::is_none)).to_be_bytes());
    bytes.extend(element.to_be_bytes());
    for (length, lower_bound) in dimensions {
        bytes.extend(word(*length));
        bytes.extend(lower_bound.to_be_bytes());
    }
    bytes.extend(
        elements
            .iter()
            .flat_map(|element| sized(element.as_deref())),
    );
    bytes
}

/// Nested lists of these lengths.
fn nested(lengths: &[usize], elements: &[Json]) -> Json {
    match lengths.split_first() {
        None | Some((_, [])) => json!(elements),
        Some((length, inner)) => elements
            .chunks(elements.len() / length)
            .map(|part| nested(inner, part))
            .collect(),
    }
}

/// One to six dimensions, each with its length and its lower bound.
fn dimensions() -> impl Strategy<Value = Vec<(usize, i32)>> {
    prop::collection::vec((1..4_usize, any::<i32>()), 1..=6)
}

/// A bound: the number, and whether it belongs to the range.
type Bound = Option<(i32, bool)>;

/// `range_send` of an `int4range`, and what it is in a document.
fn range(lower: Bound, upper: Bound) -> (Vec<u8>, Json) {
    let flags = match lower {
        Some((_, inclusive)) => u8::from(inclusive) << 1,
        None => 8,
    } | match upper {
        Some((_, inclusive)) => u8::from(inclusive) << 2,
        None => 16,
    };
    let mut bytes = vec![flags];
    let mut members = serde_json::Map::new();
    for (bound, names) in [(lower, ["gt", "gte"]), (upper, ["lt", "lte"])] {
        if let Some((number, inclusive)) = bound {
            bytes.extend(sized(Some(&number.to_be_bytes())));
            members.insert(names[usize::from(inclusive)].to_owned(), json!(number));
        }
    }
    (bytes, Json::Object(members))
}

proptest! {
    #[test]
    fn an_array_nests_as_its_dimensions_say_wherever_they_begin(
        dimensions in dimensions(),
        pool in prop::collection::vec(any::<Option<i32>>(), 729),
    ) {
        let lengths: Vec<usize> = dimensions.iter().map(|(length, _)| *length).collect();
        let elements = &pool[..lengths.iter().product()];
        let sent: Vec<_> = elements
            .iter()
            .map(|element| element.map(|number| number.to_be_bytes().to_vec()))
            .collect();
        let meant: Vec<Json> = elements.iter().map(|element| json!(element)).collect();
        let ty = made(1007, TypeKind::Array(int4()));
        let bytes = array(23, &dimensions, &sent);
        prop_assert_eq!(read(&ty, &bytes), nested(&lengths, &meant));
    }

    #[test]
    fn an_array_of_floats_keeps_every_bit_whichever_form_it_takes(
        dimensions in dimensions(),
        pool in prop::collection::vec(any::<u32>(), 729),
        null in any::<Option<prop::sample::Index>>(),
    ) {
        let lengths: Vec<usize> = dimensions.iter().map(|(length, _)| *length).collect();
        let mut elements: Vec<Option<u32>> =
            pool[..lengths.iter().product()].iter().copied().map(Some).collect();
        if let Some(null) = null {
            let place = null.index(elements.len());
            elements[place] = None;
        }
        let sent: Vec<_> = elements
            .iter()
            .map(|element| element.map(|bits| bits.to_be_bytes().to_vec()))
            .collect();
        let meant: Vec<Json> = elements.iter().map(|element| json!(element)).collect();
        let ty = made(1021, TypeKind::Array(scalar(700, Scalar::Float4)));
        let bytes = array(700, &dimensions, &sent);
        prop_assert_eq!(read(&ty, &bytes), nested(&lengths, &meant));
    }

    #[test]
    fn a_range_and_a_multirange_have_the_bounds_that_were_sent(
        bounds in prop::collection::vec((any::<Bound>(), any::<Bound>()), 0..5),
    ) {
        let ty = made(3904, TypeKind::Range(int4()));
        let (mut all, mut meant) = (word(bounds.len()).to_vec(), Vec::new());
        for (lower, upper) in bounds {
            let (bytes, one) = range(lower, upper);
            prop_assert_eq!(read(&ty, &bytes), one.clone());
            all.extend(sized(Some(&bytes)));
            meant.push(one);
        }
        let ty = made(4451, TypeKind::Multirange(int4()));
        prop_assert_eq!(read(&ty, &all), json!(meant));
    }

    #[test]
    fn a_composite_and_an_hstore_have_the_members_that_were_sent(
        number in any::<Option<i32>>(),
        text in any::<Option<String>>(),
        members in prop::collection::btree_map(any::<String>(), any::<Option<String>>(), 0..6),
    ) {
        let field = |name: &str, ty| Field { name: name.to_owned(), ty };
        let fields = vec![
            field("number", int4()),
            field("a \"text\"", scalar(25, Scalar::Text)),
        ];
        let mut bytes = [&word(2)[..], &23_u32.to_be_bytes()].concat();
        bytes.extend(sized(number.map(i32::to_be_bytes).as_ref().map(|bytes| &bytes[..])));
        bytes.extend(25_u32.to_be_bytes());
        bytes.extend(sized(text.as_deref().map(str::as_bytes)));
        let ty = made(1, TypeKind::Composite(fields));
        prop_assert_eq!(read(&ty, &bytes), json!({ "number": number, "a \"text\"": text }));

        let mut bytes = word(members.len()).to_vec();
        for (name, value) in &members {
            bytes.extend(sized(Some(name.as_bytes())));
            bytes.extend(sized(value.as_deref().map(str::as_bytes)));
        }
        let hstore = scalar(1, Scalar::Hstore);
        let read: BTreeMap<String, Option<String>> =
            serde_json::from_value(read(&hstore, &bytes)).unwrap();
        prop_assert_eq!(read, members);
    }

    #[test]
    fn an_address_is_the_one_that_another_parser_reads(
        v4: u32,
        v6: u128,
        short in 0..=32_u8,
        long in 0..=128_u8,
        is_cidr: bool,
    ) {
        let zero_padded = v6 & u128::from(u32::MAX);
        for (family, bits, all, address) in [
            (2, short, 32, IpAddr::V4(Ipv4Addr::from(v4))),
            (3, long, 128, IpAddr::V6(Ipv6Addr::from(v6))),
            (3, long, 128, IpAddr::V6(Ipv6Addr::from(zero_padded))),
        ] {
            let octets = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let length = u8::try_from(octets.len()).unwrap();
            let bytes = [&[family, bits, u8::from(is_cidr), length][..], &octets].concat();
            let text = read(&scalar(869, Scalar::Inet), &bytes);
            let text = text.as_str().unwrap();
            let (shown, netmask) = text.split_once('/').unwrap_or((text, ""));
            prop_assert_eq!(shown.parse::<IpAddr>().unwrap(), address);
            let hidden = !is_cidr && bits == all;
            prop_assert_eq!(netmask, if hidden { String::new() } else { bits.to_string() });
        }
    }

    #[test]
    fn numbers_bits_and_bytes_come_back_as_they_were_sent(
        small: i16, number: i64, unsigned: u64, double: u64, id: u128,
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        cut in 0..8_usize,
    ) {
        prop_assert_eq!(read(&scalar(21, Scalar::Int2), &small.to_be_bytes()), json!(small));
        prop_assert_eq!(read(&scalar(20, Scalar::Int8), &number.to_be_bytes()), json!(number));
        let text = unsigned.to_string();
        prop_assert_eq!(read(&scalar(5069, Scalar::Xid8), &unsigned.to_be_bytes()), json!(text));
        prop_assert_eq!(read(&scalar(701, Scalar::Float8), &double.to_be_bytes()), json!(double));
        let uuid = read(&scalar(2950, Scalar::Uuid), &id.to_be_bytes());
        let digits = uuid.as_str().unwrap().replace('-', "");
        prop_assert_eq!(u128::from_str_radix(&digits, 16).unwrap(), id);
        let base64 = read(&scalar(17, Scalar::Bytea), &bytes);
        prop_assert_eq!(STANDARD.decode(base64.as_str().unwrap()).unwrap(), bytes.clone());
        let count = (bytes.len() * 8).saturating_sub(cut);
        let sent = [&word(count)[..], &bytes].concat();
        let bits = read(&scalar(1560, Scalar::Bit), &sent);
        let expected: String = (0..count)
            .map(|at| if bytes[at / 8] >> (7 - at % 8) & 1 == 1 { '1' } else { '0' })
            .collect();
        prop_assert_eq!(bits, json!(expected));
    }
}
