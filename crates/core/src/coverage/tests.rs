mod any;
mod changes;
mod containers;
mod made_up;
mod networks;
mod places;
