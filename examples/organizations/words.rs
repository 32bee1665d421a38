//! The words that organizations are made of. Places and their coordinates are real, the
//! organizations and people are not.

pub(crate) struct Country {
    /// ISO 3166-1 alpha-2.
    pub(crate) code: &'static str,
    pub(crate) cities: &'static [City],
    pub(crate) legal_forms: &'static [&'static str],
    pub(crate) families: &'static [&'static str],
    pub(crate) streets: &'static [&'static str],
    /// "12 High Street" rather than "Hauptstraße 12".
    pub(crate) number_first: bool,
    pub(crate) dialling_code: &'static str,
    /// What the number in the company register is called.
    pub(crate) register: &'static str,
}

pub(crate) struct City {
    pub(crate) name: &'static str,
    pub(crate) region: &'static str,
    /// `#` stands for a digit.
    pub(crate) postal_pattern: &'static str,
    /// Degrees, WGS 84, of the centre.
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

pub(crate) struct Sector {
    /// NACE Rev. 2 classes.
    pub(crate) codes: &'static [&'static str],
    pub(crate) nouns: &'static [&'static str],
    pub(crate) offers: &'static [&'static str],
    pub(crate) audiences: &'static [&'static str],
}

const fn city(
    name: &'static str,
    region: &'static str,
    postal_pattern: &'static str,
    latitude: f64,
    longitude: f64,
) -> City {
    City {
        name,
        region,
        postal_pattern,
        latitude,
        longitude,
    }
}

// A list of words is read as a list, not one word a line.
#[rustfmt::skip]
pub(crate) const COUNTRIES: &[Country] = &[
    Country {
        code: "DE",
        cities: &[
            city("Berlin", "Berlin", "10###", 52.520, 13.405),
            city("Hamburg", "Hamburg", "20###", 53.551, 9.994),
            city("München", "Bayern", "80###", 48.137, 11.575),
            city("Köln", "Nordrhein-Westfalen", "50###", 50.938, 6.960),
            city("Leipzig", "Sachsen", "04###", 51.340, 12.375),
            city("Stuttgart", "Baden-Württemberg", "70###", 48.776, 9.183),
            city("Münster", "Nordrhein-Westfalen", "48###", 51.961, 7.626),
        ],
        legal_forms: &["GmbH", "AG", "GmbH & Co. KG", "e.V.", "gGmbH", "SE"],
        families: &[
            "Hartmann", "Schröder", "Vogel", "Lindner", "Krämer", "Weiß", "Brandt", "Seidel",
            "Ackermann", "Fuchs", "Baumgärtner", "Kühn", "Reuter", "Thalmann",
        ],
        streets: &[
            "Hauptstraße", "Bahnhofstraße", "Lindenallee", "Am Mühlgraben", "Goethestraße",
            "Hafenweg", "Schillerplatz", "Industriestraße",
        ],
        number_first: false,
        dialling_code: "+49 30",
        register: "HRB",
    },
    Country {
        code: "GB",
        cities: &[
            city("London", "England", "EC# #AB", 51.507, -0.128),
            city("Manchester", "England", "M# #WD", 53.480, -2.242),
            city("Edinburgh", "Scotland", "EH# #YL", 55.953, -3.188),
            city("Cardiff", "Wales", "CF# #BH", 51.482, -3.179),
            city("Bristol", "England", "BS# #TR", 51.455, -2.588),
            city("Belfast", "Northern Ireland", "BT# #GS", 54.597, -5.930),
        ],
        legal_forms: &["Ltd", "plc", "LLP", "CIC"],
        families: &[
            "Ashworth", "Pemberton", "Hughes", "Fairfax", "MacLeod", "Whitfield", "Thorne",
            "Barlow", "Kingsley", "O'Neill", "Penrose", "Holloway", "Sinclair", "Marlowe",
        ],
        streets: &[
            "High Street", "Station Road", "Church Lane", "Victoria Road", "Mill Lane",
            "King's Parade", "Dockside", "Queensway",
        ],
        number_first: true,
        dialling_code: "+44 20",
        register: "Company no.",
    },
    Country {
        code: "FR",
        cities: &[
            city("Paris", "Île-de-France", "750##", 48.857, 2.352),
            city("Lyon", "Auvergne-Rhône-Alpes", "690##", 45.764, 4.836),
            city("Marseille", "Provence-Alpes-Côte d'Azur", "130##", 43.296, 5.370),
            city("Lille", "Hauts-de-France", "590##", 50.629, 3.057),
            city("Nantes", "Pays de la Loire", "440##", 47.218, -1.554),
            city("Toulouse", "Occitanie", "310##", 43.605, 1.444),
        ],
        legal_forms: &["SA", "SARL", "SAS", "SCOP"],
        families: &[
            "Lefèvre", "Moreau", "Girard", "Fournier", "Chevalier", "Blanchard", "Rousseau",
            "Deschamps", "Perrin", "Aubert", "Delacroix", "Marchand", "Besançon", "Lemoine",
        ],
        streets: &[
            "rue de la République", "avenue Victor Hugo", "quai des Brumes", "rue du Moulin",
            "boulevard Voltaire", "place du Marché", "rue Pasteur", "allée des Tilleuls",
        ],
        number_first: true,
        dialling_code: "+33 1",
        register: "SIREN",
    },
    Country {
        code: "NL",
        cities: &[
            city("Amsterdam", "Noord-Holland", "10## AB", 52.368, 4.904),
            city("Rotterdam", "Zuid-Holland", "30## KL", 51.924, 4.478),
            city("Utrecht", "Utrecht", "35## GH", 52.091, 5.122),
            city("Eindhoven", "Noord-Brabant", "56## PD", 51.441, 5.470),
            city("Groningen", "Groningen", "97## RT", 53.219, 6.567),
        ],
        legal_forms: &["B.V.", "N.V.", "Stichting", "Coöperatie U.A."],
        families: &[
            "de Vries", "van Dijk", "Bakker", "Visser", "Smit", "Meijer", "van den Berg", "Mulder",
            "Dekker", "Hoekstra", "Kuipers", "Vermeulen",
        ],
        streets: &[
            "Keizersgracht", "Stationsweg", "Molenstraat", "Havenkade", "Wilhelminalaan",
            "Dorpsstraat", "Parkweg", "Kerkplein",
        ],
        number_first: false,
        dialling_code: "+31 20",
        register: "KvK",
    },
    Country {
        code: "SE",
        cities: &[
            city("Stockholm", "Stockholms län", "11# ##", 59.329, 18.069),
            city("Göteborg", "Västra Götalands län", "41# ##", 57.709, 11.975),
            city("Malmö", "Skåne län", "21# ##", 55.605, 13.004),
            city("Uppsala", "Uppsala län", "75# ##", 59.858, 17.645),
            city("Umeå", "Västerbottens län", "90# ##", 63.826, 20.263),
        ],
        legal_forms: &["AB", "HB", "Ekonomisk förening", "Ideell förening"],
        families: &[
            "Lindqvist", "Åkerman", "Bergström", "Nyberg", "Sandberg", "Öberg", "Holmgren",
            "Ekdahl", "Sjöström", "Wallin", "Hedlund", "Norén",
        ],
        streets: &[
            "Storgatan", "Kungsgatan", "Hamngatan", "Björkvägen", "Skolgatan", "Järnvägsgatan",
            "Ringvägen", "Strandvägen",
        ],
        number_first: false,
        dialling_code: "+46 8",
        register: "Org.nr",
    },
    Country {
        code: "ES",
        cities: &[
            city("Madrid", "Comunidad de Madrid", "280##", 40.417, -3.704),
            city("Barcelona", "Cataluña", "080##", 41.385, 2.173),
            city("Valencia", "Comunidad Valenciana", "460##", 39.470, -0.376),
            city("Sevilla", "Andalucía", "410##", 37.389, -5.984),
            city("Bilbao", "País Vasco", "480##", 43.263, -2.935),
        ],
        legal_forms: &["S.A.", "S.L.", "S. Coop.", "Fundación"],
        families: &[
            "García", "Navarro", "Iglesias", "Serrano", "Molina", "Ibáñez", "Castaño", "Vidal",
            "Mendoza", "Aguirre", "Peña", "Quintana",
        ],
        streets: &[
            "Calle Mayor", "Avenida de la Paz", "Plaza Nueva", "Calle del Carmen", "Paseo Marítimo",
            "Calle San Juan", "Ronda Norte", "Camino Real",
        ],
        number_first: false,
        dialling_code: "+34 91",
        register: "CIF",
    },
    Country {
        code: "US",
        cities: &[
            city("New York", "New York", "100##", 40.713, -74.006),
            city("Chicago", "Illinois", "606##", 41.878, -87.630),
            city("Seattle", "Washington", "981##", 47.606, -122.332),
            city("Austin", "Texas", "787##", 30.267, -97.743),
            city("Denver", "Colorado", "802##", 39.739, -104.990),
            city("Boston", "Massachusetts", "021##", 42.360, -71.059),
        ],
        legal_forms: &["Inc.", "LLC", "Corp.", "PBC"],
        families: &[
            "Caldwell", "Harrison", "Whitaker", "Donovan", "Sullivan", "Mercer", "Langley",
            "Brooks", "Nakamura", "Delgado", "Okafor", "Winslow", "Ramírez", "Kowalski",
        ],
        streets: &[
            "Main Street", "Oak Avenue", "Lakeview Drive", "Commerce Boulevard", "Harbor Road",
            "Second Street", "Maple Court", "Liberty Plaza",
        ],
        number_first: true,
        dialling_code: "+1 212",
        register: "EIN",
    },
];

#[rustfmt::skip]
pub(crate) const SECTORS: &[Sector] = &[
    Sector {
        codes: &["28.99", "28.22", "25.62"],
        nouns: &["Machinery", "Precision Engineering", "Robotics", "Tooling", "Drives"],
        offers: &["machine tools made to measure", "assembly robots", "gears and drives"],
        audiences: &["car makers", "workshops", "makers of packaging"],
    },
    Sector {
        codes: &["62.01", "62.02", "63.11"],
        nouns: &["Software", "Data Systems", "Cloud Services", "Informatics", "Analytics"],
        offers: &["software for scheduling", "data platforms", "managed cloud services"],
        audiences: &["hospitals", "public administrations", "logistics companies"],
    },
    Sector {
        codes: &["52.29", "49.41", "52.10"],
        nouns: &["Logistics", "Freight", "Shipping", "Warehousing", "Forwarding"],
        offers: &["freight by road and rail", "cold storage", "customs clearance"],
        audiences: &["importers", "food producers", "online shops"],
    },
    Sector {
        codes: &["10.71", "10.51", "10.39"],
        nouns: &["Bakery", "Dairy", "Foods", "Preserves", "Mills"],
        offers: &["bread and cakes", "cheese from mountain milk", "organic preserves"],
        audiences: &["grocers", "canteens", "families"],
    },
    Sector {
        codes: &["35.11", "35.14", "43.21"],
        nouns: &["Energy", "Solar", "Wind Power", "Grid Services", "Electric"],
        offers: &["solar parks", "heat pumps and their upkeep", "power from wind"],
        audiences: &["municipalities", "farms", "housing cooperatives"],
    },
    Sector {
        codes: &["86.10", "86.22", "86.90"],
        nouns: &["Clinic", "Medical Centre", "Diagnostics", "Physiotherapy", "Health Services"],
        offers: &["outpatient care", "laboratory diagnostics", "rehabilitation"],
        audiences: &["patients of all ages", "sports clubs", "general practitioners"],
    },
    Sector {
        codes: &["21.20", "72.11", "32.50"],
        nouns: &["Pharma", "Biotech", "Therapeutics", "Laboratories", "Medical Devices"],
        offers: &["generic medicines", "antibody research", "implants and instruments"],
        audiences: &["hospitals", "research institutes", "pharmacies"],
    },
    Sector {
        codes: &["41.20", "43.32", "71.11"],
        nouns: &["Construction", "Architects", "Joinery", "Roofing", "Builders"],
        offers: &["timber houses", "the renovation of old buildings", "plans for schools"],
        audiences: &["home owners", "town councils", "developers"],
    },
    Sector {
        codes: &["64.19", "66.22", "69.20"],
        nouns: &["Bank", "Insurance Brokers", "Capital", "Trust", "Accountants"],
        offers: &["loans for small firms", "insurance advice", "bookkeeping and audits"],
        audiences: &["craftspeople", "foundations", "start-ups"],
    },
    Sector {
        codes: &["85.59", "85.42", "85.31"],
        nouns: &["Academy", "College", "Training", "Language School", "Institute"],
        offers: &["evening courses", "vocational training", "language lessons"],
        audiences: &["apprentices", "newcomers", "working parents"],
    },
    Sector {
        codes: &["55.10", "56.10", "79.11"],
        nouns: &["Hotel", "Restaurant", "Travel", "Guesthouse", "Catering"],
        offers: &["rooms with a view", "regional cooking", "walking holidays"],
        audiences: &["travellers", "wedding parties", "conference guests"],
    },
    Sector {
        codes: &["01.13", "01.21", "46.31"],
        nouns: &["Farm", "Vineyards", "Orchards", "Market Gardens", "Seeds"],
        offers: &["vegetables in season", "wine from steep slopes", "old varieties of apples"],
        audiences: &["wholesale markets", "restaurants", "neighbours"],
    },
    Sector {
        codes: &["58.11", "59.11", "73.11"],
        nouns: &["Publishing", "Films", "Press", "Studio", "Media"],
        offers: &["illustrated books", "documentary films", "campaigns and brochures"],
        audiences: &["museums", "broadcasters", "bookshops"],
    },
    Sector {
        codes: &["38.11", "38.32", "39.00"],
        nouns: &["Recycling", "Environmental Services", "Water Works", "Recovery", "Metals"],
        offers: &["the recycling of batteries", "clean drinking water", "the sorting of scrap"],
        audiences: &["industry", "cities", "building sites"],
    },
    Sector {
        codes: &["88.99", "94.99", "91.02"],
        nouns: &["Foundation", "Relief", "Museum", "Association", "Youth Centre"],
        offers: &["help for refugees", "exhibitions on local history", "a home after school"],
        audiences: &["children and young people", "visitors", "the neighbourhood"],
    },
    Sector {
        codes: &["14.13", "31.09", "47.71"],
        nouns: &["Textiles", "Furniture", "Outfitters", "Weaving", "Interiors"],
        offers: &["linen and wool fabrics", "furniture from local oak", "working clothes"],
        audiences: &["designers", "hotels", "nurses and craftspeople"],
    },
];

pub(crate) const QUALITIES: &[&str] = &[
    "Northern",
    "Blue",
    "United",
    "Alpine",
    "Silver",
    "First",
    "Harbour",
    "Green",
    "Golden",
    "Central",
    "Atlantic",
    "Bright",
    "Riverside",
    "New",
    "Royal",
    "Open",
    "Free",
    "Modern",
    "Amber",
    "Granite",
    "Meridian",
    "Summit",
    "Evergreen",
    "Polar",
    "Coastal",
    "Crescent",
];

pub(crate) const SOURCES: &[&str] = &[
    "crm",
    "company_register",
    "web_crawl",
    "tax_office",
    "partner_feed",
];

pub(crate) const CERTIFICATIONS: &[&str] = &["ISO 9001", "ISO 14001", "ISO 27001", "B Corp"];
