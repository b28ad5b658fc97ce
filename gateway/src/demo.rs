//! `switchboard serve --demo`: orders of an imaginary shop as events of the topic `orders`, so that a newcomer's
//! dashboard shows something. Only available in development mode; ends with the server.
//!
//! The same seed and times give the same orders. They are published like any application's events, by the user `demo`.

use std::f64::consts::TAU;
use std::sync::Arc;

use switchboard_clock::Generator;
use switchboard_protocol::client::TopicPublish;
use switchboard_protocol::{ClientFrame, Event, Number, ProtocolError, SeriesName, Tags, TenantId, TopicId, UserId};
use switchboard_router::Actor;
use switchboard_store::UserKey;

use crate::gateway::Gateway;

const INTERVAL_MS: u64 = 250;
const SEED: u64 = 1878;
/// A day of the shop takes ten minutes, so that one sees its wave.
const DAY_MS: i64 = 600_000;
/// Orders at night, as a part of those at noon.
const NIGHT: f64 = 0.25;
/// Orders of one country in one interval, at most.
const ORDERS_MAX: usize = 50;

struct Country {
    code: &'static str,
    /// In the middle of its day.
    orders_per_s: f64,
    /// What half of the orders are below, in euros.
    median_eur: f64,
    /// How much sooner than in the first one it is noon, as a part of a day.
    ahead: f64,
}

const COUNTRIES: &[Country] = &[
    Country { code: "DE", orders_per_s: 9.0, median_eur: 48.0, ahead: 0.0 },
    Country { code: "FR", orders_per_s: 6.5, median_eur: 42.0, ahead: 0.0 },
    Country { code: "GB", orders_per_s: 5.0, median_eur: 55.0, ahead: -0.04 },
    Country { code: "US", orders_per_s: 8.0, median_eur: 71.0, ahead: -0.3 },
    Country { code: "JP", orders_per_s: 4.0, median_eur: 63.0, ahead: 0.33 },
];

/// What becomes of orders, and of how many of a hundred.
const STATUSES: &[(&str, u64)] = &[("paid", 74), ("pending", 14), ("cancelled", 8), ("refunded", 4)];

/// How far amounts lie apart: the deviation of their logarithm.
const SPREAD: f64 = 0.55;

/// Publishes until the node closes. What can't be published now is left out: nobody paid for it.
pub(crate) async fn publish_orders(gateway: Arc<Gateway>) {
    tracing::info!("the demo's orders are published to the topic orders; see /dashboard");
    let shop = Shop::new(SEED);
    let stop = gateway.closing.clone();
    while stop.run_until_cancelled(gateway.clock.sleep_ms(INTERVAL_MS)).await.is_some() {
        let events = shop.orders(gateway.clock.wall_ms());
        if events.is_empty() {
            continue;
        }
        if let Err(error) = publish(&gateway, events).await {
            tracing::debug!(%error, "the demo's orders were not published");
        }
    }
}

async fn publish(gateway: &Gateway, events: Vec<Event>) -> Result<(), ProtocolError> {
    let topic: TopicId = "orders".parse().expect("it is an id");
    let user: UserId = "demo".parse().expect("it is an id");
    let actor = Actor { user: UserKey { tenant: TenantId::default(), user }, session: None, awaited: true };
    let publish = ClientFrame::TopicPublish(TopicPublish { topic, events });
    gateway.router()?.call(actor, publish).await.map(drop)
}

/// See the module.
struct Shop {
    generator: Generator,
    series: SeriesName,
    /// For each country, for each status.
    tags: Vec<Vec<Tags>>,
}

impl Shop {
    fn new(seed: u64) -> Self {
        let tags = |country: &Country, status: &str| {
            serde_json::from_value(serde_json::json!({ "country": country.code, "status": status }))
                .expect("they are tags")
        };
        let of_country = |country| STATUSES.iter().map(|(status, _)| tags(country, status)).collect();
        Self {
            generator: Generator::from_seed(seed),
            series: "amount_eur".parse().expect("it is a series' name"),
            tags: COUNTRIES.iter().map(of_country).collect(),
        }
    }

    /// What is ordered in the interval that ends then.
    fn orders(&self, at_ms: i64) -> Vec<Event> {
        #[expect(clippy::cast_precision_loss, reason = "a few minutes in milliseconds")]
        let day = at_ms.rem_euclid(DAY_MS) as f64 / DAY_MS as f64;
        let mut events = Vec::new();
        for (country, tags) in COUNTRIES.iter().zip(&self.tags) {
            #[expect(clippy::cast_precision_loss, reason = "a quarter of a second")]
            let expected = country.orders_per_s * wave(day + country.ahead) * INTERVAL_MS as f64 / 1_000.0;
            for _ in 0..self.count(expected) {
                let tags = tags[self.status()].clone();
                let value = Number::saturating(self.amount_eur(country));
                events.push(Event { series: self.series.clone(), value, timestamp: None, tags });
            }
        }
        events
    }

    /// How many come when so many are expected and none waits for another (Poisson; Knuth, TAOCP 2, 3.4.1).
    fn count(&self, expected: f64) -> usize {
        let enough = (-expected).exp();
        let mut left = self.part();
        let mut count = 0;
        while left > enough && count < ORDERS_MAX {
            left *= self.part();
            count += 1;
        }
        count
    }

    fn status(&self) -> usize {
        let mut drawn = self.generator.below(100);
        STATUSES
            .iter()
            .take_while(|(_, percent)| drawn.checked_sub(*percent).map(|left| drawn = left).is_some())
            .count()
    }

    /// Log-normal, in whole cents.
    fn amount_eur(&self, country: &Country) -> f64 {
        let normal = (-2.0 * (1.0 - self.part()).ln()).sqrt() * (TAU * self.part()).cos();
        (country.median_eur * (SPREAD * normal).exp() * 100.0).round() / 100.0
    }

    /// Evenly from 0 up to 1.
    fn part(&self) -> f64 {
        const PARTS: u32 = 1 << 30;
        f64::from(u32::try_from(self.generator.below(u64::from(PARTS))).unwrap_or_default()) / f64::from(PARTS)
    }
}

/// From `NIGHT` at the day's beginning to 1 in its middle.
fn wave(day: f64) -> f64 {
    NIGHT + (1.0 - NIGHT) * (1.0 - (TAU * day).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// All that is sold in a day that begins then.
    fn day(seed: u64) -> Vec<Vec<Event>> {
        let shop = Shop::new(seed);
        (0..DAY_MS).step_by(250).map(|at_ms| shop.orders(at_ms)).collect()
    }

    #[test]
    fn a_seed_makes_the_same_orders_again() {
        assert_eq!(day(1), day(1));
        assert_ne!(day(1), day(2));
    }

    #[test]
    fn every_country_has_orders_of_every_status_at_plausible_prices() {
        let orders: Vec<_> = day(SEED).into_iter().flatten().collect();
        let tags: BTreeSet<_> = orders.iter().map(|order| format!("{:?}", order.tags)).collect();
        assert_eq!(tags.len(), COUNTRIES.len() * STATUSES.len());
        assert!(orders.iter().all(|order| (1.0..10_000.0).contains(&order.value.get())));
        let paid = orders.iter().filter(|order| order.tags.iter().any(|tag| tag == ("status", "paid"))).count();
        let percent = paid * 100 / orders.len();
        assert!((71..=77).contains(&percent), "{percent} % are paid");
    }

    #[test]
    fn noon_is_busier_than_night() {
        let of_germany = |orders: &[Vec<Event>]| {
            orders.iter().flatten().filter(|order| order.tags.iter().any(|tag| tag == ("country", "DE"))).count()
        };
        let day = day(SEED);
        let (tenth, middle) = (day.len() / 10, day.len() / 2);
        let (night, noon) = (of_germany(&day[..tenth]), of_germany(&day[middle - tenth / 2..middle + tenth / 2]));
        assert!(noon > 2 * night, "{noon} at noon, {night} at night");
    }
}
