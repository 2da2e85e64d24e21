//! All pages of a list, or a failure: half a list would be taken for a whole one.

/// All pages of a call, by the SDK's paginator. Each must have its list: an answer without it is not an empty one.
///
/// The SDK would take a page that names itself as the next one for the end. Here it goes on until the deadline of the observation.
macro_rules! pages {
    ($call:literal, $builder:expr, $list:ident) => {
        async {
            let mut pages = $builder.into_paginator().stop_on_duplicate_token(false).send();
            let mut found = Vec::new();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|e| $crate::aws::Failure::of($call, &e))?;
                found.extend(page.$list.ok_or_else(|| $crate::aws::Failure::misfit($call, stringify!($list)))?);
            }
            Ok::<_, $crate::aws::Failure>(found)
        }
    };
}

/// The list of a call that has one page.
macro_rules! listed {
    ($call:literal, $builder:expr, $list:ident) => {
        async {
            let answer = $builder.send().await.map_err(|e| $crate::aws::Failure::of($call, &e))?;
            answer.$list.ok_or_else(|| $crate::aws::Failure::misfit($call, stringify!($list)))
        }
    };
}

pub(crate) use {listed, pages};
