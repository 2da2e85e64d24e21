mod beats;
mod both;
mod far;
mod judging;
mod leaving;
