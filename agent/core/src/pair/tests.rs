mod beats;
mod both;
mod judging;
mod leaving;
