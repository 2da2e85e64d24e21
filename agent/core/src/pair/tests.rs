mod beats;
mod both;
mod judging;
