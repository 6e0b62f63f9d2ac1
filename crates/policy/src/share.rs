//! How a user's places share one baseline.
//!
//! What a user runs in a server and outside it drains one account, so the baseline that is left
//! to it once it is spent is one too. Each place gets what it wants as far as that goes, and what
//! is scarce is shared equally among those that want more. A place that wants nothing keeps a
//! tenth, so that whoever comes back to it can make it known by using it up.

use quantities::Cores;

/// What a place keeps at least, as a part of what is shared out.
const LEAST: f64 = 0.1;

/// What each place is given of `total`, in the order of `wants`; together never more than that.
///
/// `wants` is what each would use if it could, in cores.
pub fn share_out(total: Cores, wants: &[Cores]) -> Vec<Cores> {
    let places = wants.len() as f64;
    let least = (LEAST * total.0).min(total.0 / places.max(1.0));
    let mut given = vec![least; wants.len()];
    let mut left = total.0 - least * places;
    // Each round either gives somebody all that they want, or is the last one.
    let mut hungry: Vec<usize> = (0..wants.len())
        .filter(|place| wants[*place].0 > least)
        .collect();
    while !hungry.is_empty() {
        let equal = left / hungry.len() as f64;
        let (sated, unsated): (Vec<usize>, Vec<usize>) = hungry
            .iter()
            .partition(|place| wants[**place].0 - given[**place] <= equal);
        if sated.is_empty() {
            for place in unsated {
                given[place] += equal;
            }
            left = 0.0;
            break;
        }
        for place in sated {
            left -= wants[place].0 - given[place];
            given[place] = wants[place].0;
        }
        hungry = unsated;
    }
    // What nobody wants yet is there for whoever does next.
    let spare = left.max(0.0) / places.max(1.0);
    given
        .into_iter()
        .map(|given| Cores(given + spare))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shared(total: f64, wants: &[f64]) -> Vec<f64> {
        let wants: Vec<Cores> = wants.iter().copied().map(Cores).collect();
        let given = share_out(Cores(total), &wants);
        let rounded = |Cores(given): Cores| (given * 1e6).round() / 1e6;
        given.into_iter().map(rounded).collect()
    }

    #[test]
    fn a_place_alone_has_all() {
        assert_eq!(shared(0.25, &[0.0]), [0.25]);
        assert_eq!(shared(0.25, &[8.0]), [0.25]);
        assert!(shared(0.25, &[]).is_empty());
    }

    #[test]
    fn an_idle_place_leaves_the_other_nine_tenths() {
        assert_eq!(shared(0.25, &[0.0, 2.0]), [0.025, 0.225]);
        assert_eq!(shared(0.25, &[2.0, 0.01]), [0.225, 0.025]);
    }

    #[test]
    fn two_that_want_more_have_half_each() {
        assert_eq!(shared(0.25, &[2.0, 0.3]), [0.125, 0.125]);
    }

    #[test]
    fn who_wants_less_than_the_half_has_that() {
        assert_eq!(shared(0.25, &[0.05, 2.0]), [0.05, 0.2]);
        assert_eq!(shared(0.25, &[0.1, 2.0]), [0.1, 0.15]);
    }

    #[test]
    fn many_places_have_equal_parts_of_what_there_is() {
        assert_eq!(shared(1.0, &[2.0; 20]), [0.05; 20]);
        assert_eq!(shared(1.0, &[0.0; 20]), [0.05; 20]);
    }

    #[test]
    fn what_nobody_wants_is_shared_too() {
        assert_eq!(shared(0.25, &[0.0, 0.0]), [0.125, 0.125]);
        assert_eq!(shared(0.25, &[0.1, 0.05]), [0.15, 0.1]);
    }

    proptest! {
        #[test]
        fn together_never_more_than_there_is_and_nobody_without(
            total in 0.01..64.0f64,
            wants in prop::collection::vec(0.0..128.0f64, 1..20),
        ) {
            let places: Vec<Cores> = wants.iter().copied().map(Cores).collect();
            let given = share_out(Cores(total), &places);
            let sum: f64 = given.iter().map(|given| given.0).sum();
            prop_assert!((sum - total).abs() <= 1e-9 * total, "{sum} of {total}");
            let least = (LEAST * total).min(total / wants.len() as f64);
            for (given, wants) in given.iter().zip(&wants) {
                prop_assert!(given.0 >= least - 1e-12);
                // Nobody goes short while another has more than they want.
                if given.0 < wants - 1e-9 {
                    let most = given.0 + 1e-9;
                    prop_assert!(
                        places.iter().zip(&share_out(Cores(total), &places))
                            .all(|(other, has)| has.0 <= most || has.0 <= other.0 + 1e-9),
                    );
                }
            }
        }
    }
}
